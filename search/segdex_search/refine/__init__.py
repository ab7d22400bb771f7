"""From hits to better masks."""
