"""Turn images into stored segments."""
