"""Masks, cut-outs and sheets as pictures; records as answers."""
