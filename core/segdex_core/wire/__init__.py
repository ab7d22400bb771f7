"""What crosses HTTP, shared by the service, its clients and the command line; needs pydantic alone."""
