"""Conversion of records to formats of other tools: pure functions."""
