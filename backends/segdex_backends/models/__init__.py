"""Models behind the ports, one folder for each library."""
