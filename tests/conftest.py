"""Fixtures that more than one folder of tests uses, and the order of the tests."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from tests.qdrant_server import qdrant_server

__all__ = ["fast_folder", "qdrant_server"]

settings.register_profile("any machine", deadline=None)  # a busy one is slow, and no property less true
settings.load_profile("any machine")

# Later means slower: a mistake in a pure function shows before a model is loaded.
_TESTS = Path(__file__).parent
_ORDER = ("service", "models", "qdrant", "browser", "e2e", "gpu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs the service, and run the tests without a marker first, then marker by marker.

    The order within is kept.
    """
    for item in items:
        if item.path.is_relative_to(_TESTS / "api" / "http") or item.path.is_relative_to(_TESTS / "client"):
            item.add_marker(pytest.mark.service)
    items.sort(
        key=lambda item: max(
            (n for n, name in enumerate(_ORDER, 1) if item.get_closest_marker(name)), default=0
        )
    )


@pytest.fixture(scope="session")
def fast_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one: on a busy disk, syncing makes the tests of the index slow."""
    memory = Path("/dev/shm")  # noqa: S108 - the name that Linux gives it
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 << 30:
        with TemporaryDirectory(dir=memory, prefix="segdex-test-") as folder:
            yield Path(folder)
    else:
        yield tmp_path_factory.mktemp("fast")
