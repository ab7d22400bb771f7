"""Models and indexes behind the ports of ``segdex_core``; only ``segdex.wiring`` imports it."""
