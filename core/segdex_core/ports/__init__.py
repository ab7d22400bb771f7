"""Protocols that models, indexes and sources implement."""
