"""The queue of long ingests, and the workers that run them."""
