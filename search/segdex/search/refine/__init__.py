"""From hits to better masks, and to the answer that a thing is not there."""
