"""Exports for other tools: what is chosen, how it is named, and how it is written."""
