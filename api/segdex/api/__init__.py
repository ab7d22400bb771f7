"""What people touch: the command line, the composition root, the evaluation."""
