"""Masks, cut-outs and contact sheets as images, and the conversion to JSON records."""
