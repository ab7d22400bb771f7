"""SAM 2 in torch, with weights from any of its files."""
