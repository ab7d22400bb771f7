"""Figures on labelled pictures."""
