"""CLIP models of OpenCLIP."""
