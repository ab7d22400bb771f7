"""Turn queries into hits."""
