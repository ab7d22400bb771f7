"""Records as documents of other tools: pure functions."""
