"""Indexes behind the ports."""
