"""What segdex asks of models, indexes and sources: one small protocol a file."""
