"""Implementations of the ports of ``segdex_core``; only ``segdex.wiring`` imports this package."""
