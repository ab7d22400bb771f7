"""Fixtures that more than one folder of tests uses, and the order of the tests."""

import pytest
from tests.qdrant_server import qdrant_server

__all__ = ["qdrant_server"]

# Later means slower: a mistake in a pure function shows before a model is loaded.
_ORDER = ("models", "qdrant", "e2e", "gpu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests without a marker first, then marker by marker; the order within is kept."""
    items.sort(
        key=lambda item: max(
            (n for n, name in enumerate(_ORDER, 1) if item.get_closest_marker(name)), default=0
        )
    )
