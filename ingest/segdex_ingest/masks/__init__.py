"""Automatic mask generation, step by step."""
