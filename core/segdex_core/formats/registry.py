"""The formats of ``segdex export`` by name: the one place where a new one is added."""

from collections.abc import Mapping

from segdex_core.formats.export import ExportFormat

FORMATS: Mapping[str, ExportFormat] = {}
"""Formats of annotations; ``parquet`` (a backup) and ``zip`` (cut-outs) are not made of annotations alone."""
