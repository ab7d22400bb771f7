"""A process that is killed at any write of any operation loses nothing, and a later run repairs the rest."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import pytest
from tests.conftest import Tried
from tests.fakes.point_store import Killed, MeetingStore, MemoryStore, Moment, Stored
from tests.ingest.consistent import assert_consistent, points_of
from tests.ingest.operations import (
    NEW,
    NEW_EMBEDDER,
    OLD,
    OPERATIONS,
    OPTIONS,
    SOURCE,
    Folder,
    Operation,
    ingest,
    ingest_as_it_is,
    make_deterministic,
    opened,
    sync,
)

from segdex.cli.ingest import ended_by_sigterm
from segdex.usecases.manage import delete_images
from segdex_backends.index.point_store import PointStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.errors import IndexConflictError, IndexMissingError, UsageError
from segdex_ingest.finish import as_finished
from segdex_ingest.ledger import Ledger
from segdex_ingest.plan import plan_ingest
from segdex_ingest.report import IngestReport
from segdex_ingest.run import rehearse
from segdex_search.answer import search
from segdex_search.queries import SearchQuery, TextTerm


@pytest.fixture(autouse=True)
def _deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    make_deterministic(monkeypatch)


def names_with_slow(*slow: str) -> list[object]:
    """Return the names of all operations as parameters; some take seconds."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in OPERATIONS]


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def started(operation: Operation, folder: Folder) -> Stored:
    """Return what is stored before an operation."""
    stored = Stored()
    if not operation.starts_empty:
        index = opened(stored)
        ingest(index, folder)
        operation.before(index, folder)
    return operation.form(stored)


def after(stored: Stored, *runs: Callable[[QdrantIndex], object]) -> Stored:
    """Return what is stored after some processes, one after the other."""
    result = stored.copy()
    for one in runs:
        index = opened(result)
        one(index)
    return result


def killed(stored: Stored, operation: Operation, folder: Folder) -> Iterator[tuple[str, Stored]]:
    """Yield what is stored after an operation that was killed, for each moment in which that is possible."""
    last = 0
    while True:
        last += 1
        for moment in cast("tuple[Moment, ...]", ("before", "half")):
            result = stored.copy()
            try:
                index = opened(result, last=last, moment=moment)
                operation.run(index, folder)
            except Killed:
                yield f"{moment} write {last}", result
            else:
                return


def assert_search_is_right(index: QdrantIndex) -> None:
    """Assert that a search shows no object twice, and none of a picture without a record."""
    known = index.fingerprint()
    if known is None:
        return
    embedder = NEW_EMBEDDER if known.embedder == NEW_EMBEDDER.fingerprint else OLD.embedder
    query = SearchQuery(terms=(TextTerm("red"),), limit=20)
    hits = search(query, index=index, embedder=embedder).hits
    shown = [(hit.image.image_id, one.segment_id) for hit in hits for one in hit.segments]
    assert len(set(shown)) == len(shown)
    assert {key for key, _ in shown} <= {one.image_id for one in index.scroll_images()}


def rehearsed(index: QdrantIndex, folder: Folder) -> IngestReport:
    """Return what an ingest says that it would do."""
    ledger = Ledger(as_finished(index.scroll_images()))
    plan = plan_ingest(folder.uris(), source=SOURCE, ledger=ledger, recipe=OLD.fingerprint())
    return rehearse(plan, source=SOURCE, ledger=ledger, options=OPTIONS)


def outcomes_of(report: IngestReport) -> list[tuple[str, str, str]]:
    return [(one.uri, one.outcome, one.detail) for one in report.files]


@pytest.mark.promise("Ingest", "What was killed at any write loses nothing, and the same again completes it.")
@pytest.mark.parametrize("name", names_with_slow("re-embedded once more"))
def test_the_same_again_after_a_kill_at_any_write_gives_the_same_index(
    folder: Folder, name: str, tried: Tried
) -> None:
    operation = OPERATIONS[name]
    start = started(operation, folder)
    expected = points_of(MemoryStore(after(start, lambda index: operation.run(index, folder))))
    count = 0

    for when, stored in killed(start, operation, folder):
        count += 1
        assert_search_is_right(opened(stored))
        if operation.run is ingest and stored.description is not None:
            promised = outcomes_of(rehearsed(opened(stored), folder))
            assert outcomes_of(ingest(opened(stored.copy()), folder)) == promised
        again = after(stored, lambda index: operation.run(index, folder))
        assert points_of(MemoryStore(again)) == expected, f"killed {when}"
        assert_consistent(opened(again))

    assert count > 1
    tried(count, "kills")


@pytest.mark.promise("Ingest", "An ordinary ingest and a sync repair what any killed process left.")
@pytest.mark.parametrize("name", names_with_slow("re-embedded", "re-embedded once more", "restored"))
def test_an_ordinary_ingest_and_a_sync_repair_what_a_kill_at_any_write_left(
    folder: Folder, name: str, tried: Tried
) -> None:
    operation = OPERATIONS[name]
    start = started(operation, folder)
    ordinary = (lambda index: ingest_as_it_is(index, folder), sync)
    expected = points_of(MemoryStore(after(start, lambda index: operation.run(index, folder), *ordinary)))
    count = 0

    for when, stored in killed(start, operation, folder):
        count += 1
        again = after(stored, *ordinary)
        assert_consistent(opened(again))
        if operation.repairs:
            assert points_of(MemoryStore(again)) == expected, f"killed {when}"

    tried(count, "kills")


OTHERS: Mapping[str, Callable[[QdrantIndex, Folder], object]] = {
    "another recipe": lambda index, folder: ingest(index, folder, NEW),
    "the old recipe": lambda index, folder: ingest(index, folder, OLD),
    "a deletion": lambda index, folder: delete_images(index, [str(folder.root)]),
    "a tag": lambda index, folder: ingest(index, folder, OLD, "theirs"),
    "a sync": lambda index, folder: sync(index),
}
"""What another process does while the first one is at work."""

FIRST = ("new", "replaced", "redone", "tagged", "deleted", "synced", "renamed")


@pytest.mark.promise("Ingest", "Two processes that change the same pictures at once leave nothing half done.")
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", FIRST)
def test_another_process_between_any_two_writes_leaves_nothing_half_done(
    folder: Folder, name: str, other: str, tried: Tried
) -> None:
    start = started(OPERATIONS[name], folder)

    def mine(index: QdrantIndex) -> None:
        with suppress(IndexConflictError, UsageError):  # told that it was too late
            OPERATIONS[name].run(index, folder)

    def theirs(index: QdrantIndex) -> None:
        with suppress(IndexMissingError, UsageError):  # there is nothing to delete yet
            OTHERS[other](index, folder)

    ordinary = (lambda index: ingest(index, folder, OLD, "new", "theirs"), sync)
    expected = points_of(MemoryStore(after(start, mine, theirs, *ordinary)))
    at, acted = 0, True
    while acted:
        at, acted = at + 1, False
        stored = start.copy()

        def meet(stored: Stored = stored) -> None:
            nonlocal acted
            acted = True
            theirs(opened(stored))

        mine(QdrantIndex(cast("PointStore", MeetingStore(MemoryStore(stored), at=at, act=meet))))
        assert_consistent(opened(stored))
        assert points_of(MemoryStore(after(stored, *ordinary))) == expected, f"met at write {at}"
    tried(at - 1, "meetings")


@contextmanager
def ended_by_sigint() -> Iterator[None]:
    """Let SIGINT do what it does in a command: a process of pytest-xdist ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("name", "number"), [("replaced", signal.SIGTERM), ("redone", signal.SIGINT)])
def test_a_signal_waits_for_the_picture_that_is_written_and_a_second_one_does_not(
    folder: Folder, name: str, count: int, number: signal.Signals
) -> None:
    operation = OPERATIONS[name]
    start = started(operation, folder)
    expected = points_of(MemoryStore(after(start, lambda index: operation.run(index, folder))))
    unfinished = at = 0
    is_met = True
    while is_met:
        at, is_met = at + 1, False
        stored = start.copy()

        def meet() -> None:
            nonlocal is_met
            is_met = True
            for _ in range(count):
                signal.raise_signal(number)

        store = MeetingStore(MemoryStore(stored), at=at, act=meet)
        with ended_by_sigterm(), ended_by_sigint(), suppress(KeyboardInterrupt):  # also while it is opened
            operation.run(QdrantIndex(cast("PointStore", store)), folder)
        if stored.description is not None:
            unfinished += sum(one.pending is not None for one in opened(stored).scroll_images())
        again = after(stored, lambda index: operation.run(index, folder))
        assert points_of(MemoryStore(again)) == expected, f"{count} signals before write {at}"
    assert (unfinished > 0) == (count > 1)
