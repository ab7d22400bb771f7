"""Models that implement the ports, in one folder per library."""
