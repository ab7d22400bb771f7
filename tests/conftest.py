"""Fixtures that more than one folder of tests uses, and the order of the tests."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import pytest
from hypothesis import settings
from tests.qdrant_server import qdrant_server

__all__ = ["Tried", "fast_folder", "fast_root", "qdrant_server"]

settings.register_profile("any machine", deadline=None)  # a busy one is slow, and no property less true
settings.load_profile("any machine")

_TESTS = Path(__file__).parent
_MARKERS = {
    _TESTS / "api" / "http": "service",
    _TESTS / "api" / "test_cli_start.py": "e2e",
    _TESTS / "api" / "test_addresses.py": "pipeline",
    _TESTS / "api" / "test_cli_json.py": "pipeline",
    _TESTS / "api" / "test_import_labels.py": "pipeline",
    _TESTS / "api" / "test_index_requests.py": "pipeline",
    _TESTS / "backends" / "backup": "pipeline",
    _TESTS / "backends" / "index" / "test_edge_damage.py": "pipeline",
    _TESTS / "backends" / "index" / "test_edge_index.py": "pipeline",
    _TESTS / "backends" / "index" / "test_edge_sharing.py": "pipeline",
    _TESTS / "backends" / "index" / "test_migrations.py": "pipeline",
    _TESTS / "backends" / "index" / "test_server_index.py": "qdrant",
    _TESTS / "backends" / "index" / "test_server_migrations.py": "qdrant",
    _TESTS / "backends" / "models": "models",
    _TESTS / "benchmarks" / "test_hub_day.py": "models",
    _TESTS / "client": "service",
    _TESTS / "contract" / "test_library.py": "pipeline",
    _TESTS / "contract" / "test_segment_index.py": "pipeline",
    _TESTS / "core" / "media" / "test_images_odd.py": "pipeline",
    _TESTS / "core" / "media" / "test_pool.py": "pipeline",
    _TESTS / "docs" / "test_snippets.py": "service",
    _TESTS / "e2e": "e2e",
    _TESTS / "gpu": "models",
    _TESTS / "ingest" / "masks" / "test_mask_generate.py": "pipeline",
    _TESTS / "ingest" / "masks" / "test_mask_visible.py": "pipeline",
    _TESTS / "ingest" / "test_ahead.py": "pipeline",
    _TESTS / "ingest" / "test_decoding_processes.py": "pipeline",
    _TESTS / "ingest" / "test_doctor.py": "pipeline",
    _TESTS / "ingest" / "test_equal_files.py": "pipeline",
    _TESTS / "ingest" / "test_failures.py": "pipeline",
    _TESTS / "ingest" / "test_killed.py": "pipeline",
    _TESTS / "ingest" / "test_meanwhile.py": "pipeline",
    _TESTS / "ingest" / "test_reembed.py": "pipeline",
    _TESTS / "ingest" / "test_run.py": "pipeline",
    _TESTS / "search" / "test_arrange.py": "pipeline",
    _TESTS / "search" / "test_conditions.py": "pipeline",
    _TESTS / "search" / "test_conditions_by_hand.py": "pipeline",
    _TESTS / "web": "browser",
}
"""Of all tests in a folder or a file."""

# Later means slower: a mistake in a pure function shows before a model is loaded.
_ORDER = ("pipeline", "service", "models", "qdrant", "browser", "e2e", "gpu")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--as-promised``, which tries faults as often as deploy/RELIABILITY.md says."""
    parser.addoption("--as-promised", action="store_true", help="Try faults as often as RELIABILITY.md says.")


def pytest_configure() -> None:
    """Give each process of ``-n`` its share of the cores; torch would take them all in each."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(len(os.sched_getaffinity(0)) // workers, 1)))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what has a marker that ``-m`` excludes: its modules load torch, a service or a browser."""
    expression: str = config.getoption("markexpr")
    if "(" in expression or " or " in expression:
        return None  # only of terms that must all be true does each exclude something
    excluded = {term.removeprefix("not ") for term in expression.split(" and ") if term.startswith("not ")}
    return True if _MARKERS.get(collection_path) in excluded else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by where they are, and run those without a marker first, then marker by marker.

    The order within is kept. Where several processes run them, the longest come first: one that begins last
    would keep the others waiting.
    """
    for item in items:
        for place in (item.path, *item.path.parents):
            if place in _MARKERS:
                item.add_marker(_MARKERS[place])
        promise = item.get_closest_marker("promise")
        if promise is not None:  # in the report that `make promises` reads
            subject, text = promise.args
            item.user_properties += [("subject", subject), ("promise", text)]
    items.sort(
        key=lambda item: max(
            (n for n, name in enumerate(_ORDER, 1) if item.get_closest_marker(name)), default=0
        ),
        reverse="PYTEST_XDIST_WORKER" in os.environ,
    )


@pytest.fixture(scope="session")
def fast_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one: on a busy disk, syncing makes the tests of the index slow."""
    memory = Path("/dev/shm")  # noqa: S108 - the name that Linux gives it
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 << 30:
        with TemporaryDirectory(dir=memory, prefix="segdex-test-") as folder:
            yield Path(folder)
    else:
        yield tmp_path_factory.mktemp("fast")


@pytest.fixture(scope="module")
def fast_folder(fast_root: Path) -> Iterator[Path]:
    """A folder in memory, removed after each file of tests: an embedded index takes 140 MB of it."""
    with TemporaryDirectory(dir=fast_root, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def as_promised(request: pytest.FixtureRequest) -> bool:
    """Whether faults are tried as often as deploy/RELIABILITY.md says; otherwise a third of them will do."""
    return bool(request.config.getoption("--as-promised"))


class Tried(Protocol):
    """Notes how hard a promise was tried, for `make promises`."""

    def __call__(self, count: int, what: str, *, lost: int = 0) -> None: ...


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Tried:
    """Note the faults or inputs of a test marked ``promise``, such as ``tried(192, "damaged copies")``."""

    def note(count: int, what: str, *, lost: int = 0) -> None:
        record_property("tried", f"{count:,} {what}")
        record_property("lost", lost)

    return note
