"""CLIP models that OpenCLIP knows."""
