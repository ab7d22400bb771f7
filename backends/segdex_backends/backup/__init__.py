"""Backups of an index as Parquet files."""
