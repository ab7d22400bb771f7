"""EVF-SAM2: masks of what a text names."""
