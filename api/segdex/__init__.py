"""Find the objects in your pictures."""
