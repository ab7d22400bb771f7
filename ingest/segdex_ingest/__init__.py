"""From picture to stored segments."""
