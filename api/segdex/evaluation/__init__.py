"""Metrics on labeled images."""
