"""Implementations of the ``Source`` port."""
