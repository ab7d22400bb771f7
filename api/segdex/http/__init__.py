"""The HTTP service: state, access control, routes and errors."""
