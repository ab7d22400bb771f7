"""EVF-SAM2: segmentation of objects that a text names."""
