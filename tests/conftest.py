"""Fixtures that more than one folder of tests uses."""

from tests.qdrant_server import qdrant_server

__all__ = ["qdrant_server"]
