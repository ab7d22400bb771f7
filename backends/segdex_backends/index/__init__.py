"""Implementations of the ``SegmentIndex`` port."""
