"""The paths of the HTTP service, a file for each subject."""
