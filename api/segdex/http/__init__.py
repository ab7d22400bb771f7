"""The HTTP service: what it holds, who may use it, and how it says no."""
