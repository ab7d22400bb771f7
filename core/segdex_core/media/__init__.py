"""Bytes to pixels, and names of places."""
