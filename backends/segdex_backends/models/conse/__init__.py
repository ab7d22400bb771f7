"""The offline embedder: an ImageNet classifier and a sentence model."""
