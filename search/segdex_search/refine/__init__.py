"""Refine the masks of hits."""
