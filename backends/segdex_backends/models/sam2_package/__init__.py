"""Meta's own package ``sam2`` behind the ``Segmenter`` port."""
