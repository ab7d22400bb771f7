"""Three processes that change one index at once leave what some order of the same changes leaves."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from tests.conftest import Tried
from tests.e2e.any_order_child import EMBEDDERS, RECIPES, open_index
from tests.e2e.any_order_model import (
    UPLOAD,
    Files,
    Picture,
    State,
    Step,
    deleted,
    labelled,
    left,
    noted,
    outcomes,
    reembedded,
    synced,
)
from tests.fakes.tiny import SOURCE, draw, ingest_tiny
from tests.needs import ROOT
from tests.qdrant_server import QdrantServer

from segdex_backends.index.memory import MemoryIndex
from segdex_core.media.uris import uri_to_path
from segdex_core.ports.index import SegmentIndex
from segdex_core.sets import sets_by_member, sets_of
from segdex_ingest.doctor import examine

RUNS = int(os.environ.get("SEGDEX_STATEFUL_RUNS", "12"))
SEED = int(os.environ.get("SEGDEX_STATEFUL_SEED", "1"))
PROCESSES = 3

COLOURS = ("red", "green", "blue", "yellow")
NAMES = ("a.png", "b.png", "c.png", "d.png", "e.png", "f.png")
SETS = ("s", "t")

Operation = tuple[str, ...]

OF_FILES = {"missing_file", "replaced_file"}
UNFINISHED = {"unfinished_reembedding"}

OPERATIONS = st.one_of(
    st.tuples(st.just("ingest"), st.lists(st.sampled_from("xy"), unique=True, max_size=2)),
    st.tuples(st.just("ingest"), st.just([])),
    st.tuples(st.just("upload"), st.sampled_from(COLOURS)),
    st.tuples(st.just("delete"), st.sampled_from([*COLOURS, *NAMES[:4]])),
    st.tuples(st.just("sync")),
    st.tuples(st.just("label"), st.sampled_from(COLOURS), st.sampled_from("kl")),
    st.tuples(st.just("set_add"), st.sampled_from(SETS), st.sampled_from(COLOURS)),
    st.tuples(st.just("set_remove"), st.sampled_from(SETS), st.sampled_from(COLOURS)),
    st.tuples(st.just("set_delete"), st.sampled_from(SETS)),
    st.tuples(st.just("reembed"), st.sampled_from(sorted(EMBEDDERS))),
)

FILE_CHANGES = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.sampled_from(COLOURS)),
    st.tuples(st.just("rename"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just("")),
)


class Process:
    """A process that waits for operations."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.any_order_child"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def use(self, place: str, prefix: str, folder: Path) -> None:
        """Say which index the next operations change."""
        self._send({"use": {"place": place, "prefix": prefix, "folder": str(folder), "name": self.name}})

    def begin(self, operations: Sequence[Sequence[object]]) -> None:
        """Begin some operations, one after the other."""
        self._send({"do": operations})

    def answers(self) -> list[dict[str, Any]]:
        """Wait for their end, and return what became of each."""
        assert self._child.stdout is not None
        found = json.loads(self._child.stdout.readline())
        assert isinstance(found, list), found["trace"]
        return found

    def close(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(60)

    def _send(self, value: object) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(value) + "\n")
        self._child.stdin.flush()


@contextmanager
def processes(count: int) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Process(f"p{number}"))) for number in range(count)]


Stored = dict[UUID, Any]


@cache
def references() -> tuple[Mapping[str, UUID], Mapping[str, Mapping[str, Stored]]]:
    """Return the id of each picture, and by embedder what an index has of it: segments and vectors."""
    ids: dict[str, UUID] = {}
    stored: dict[str, dict[str, Stored]] = {name: {} for name in EMBEDDERS}
    for colour in COLOURS:
        for name, recipe in RECIPES.items():
            with TemporaryDirectory() as folder:
                draw(Path(folder) / "a.png", colour)
                index = MemoryIndex()
                ingest_tiny(index, Path(folder), recipe=recipe)
            ids[colour] = next(index.scroll_images()).image_id
            stored[name][colour] = points_of(index)[ids[colour]]
    return ids, stored


def points_of(index: SegmentIndex) -> dict[UUID, Stored]:
    """Return the segments of each picture with their vectors, and its own vector, by their ids.

    What an ingest, people or files change of a segment is left out.
    """
    found: dict[UUID, Stored] = {record.image_id: {} for record in index.scroll_images()}
    segments = list(index.scroll_segments())
    vectors = index.get_vectors([one.segment_id for one in segments])
    for one in segments:
        rows = {view: row.tolist() for view, row in vectors[one.segment_id].items()}
        drawn = (one.mask, one.box, one.ancestor_ids, one.object_score, one.colours)
        found.setdefault(one.image_id, {})[one.segment_id] = (drawn, rows)
    for image_id, row in index.get_image_vectors(list(found)).items():
        found[image_id][image_id] = row.tolist()
    return found


class AnyOrder(RuleBasedStateMachine):
    """Three processes, a folder of a few pictures, and what the index may be."""

    at: ClassVar[Callable[[], tuple[str, str, Path]]]
    workers: ClassVar[list[Process]]
    at_once: ClassVar[bool]
    failures: ClassVar[list[tuple[BaseException, object]]]

    def __init__(self) -> None:
        super().__init__()
        self.place, self.prefix, self.folder = type(self).at()
        for name in ("pictures", "uploads", "contents"):
            (self.folder / name).mkdir(parents=True)
        for colour in COLOURS:
            draw(self.folder / "contents" / colour, colour)
        self.files: dict[str, str] = {}
        self.pictures: dict[str, State] = dict.fromkeys(COLOURS)
        self.members: dict[tuple[str, str], bool] = {
            (name, colour): False for name in SETS for colour in COLOURS
        }
        self.sets: dict[str, bool] = dict.fromkeys(SETS, False)
        self.embedder: str | None = None
        self.changes = 0
        self.history: list[object] = []
        for worker in self.workers:
            worker.use(self.place, self.prefix, self.folder)

    @initialize(colours=st.lists(st.sampled_from(COLOURS), min_size=3, max_size=6))
    def fill(self, colours: list[str]) -> None:
        for name, colour in zip(NAMES, colours, strict=False):
            self.write(name, colour)

    @rule(
        changes=st.lists(FILE_CHANGES, max_size=3),
        operations=st.tuples(*[st.lists(OPERATIONS, min_size=1, max_size=3)] * PROCESSES),
    )
    def change(
        self, changes: Sequence[tuple[str, str, str]], operations: Sequence[Sequence[Operation]]
    ) -> None:
        """Change some files, and then let each process carry out some operations."""
        for verb, name, other in changes:
            getattr(self, verb)(name, other)
        with self.noting(operations):
            self.carry_out(operations)

    def write(self, name: str, colour: str) -> None:
        """Add a file, or replace it."""
        self.changes += 1
        draw(self.folder / "pictures" / name, colour, mtime_s=1000 + self.changes)
        self.files[name] = colour

    def rename(self, name: str, other: str) -> None:
        """Give a file another name, also one that another file has."""
        if name in self.files and name != other:
            (self.folder / "pictures" / name).replace(self.folder / "pictures" / other)
            self.files[other] = self.files.pop(name)

    def remove(self, name: str, _: str) -> None:
        """Remove a file."""
        if self.files.pop(name, None) is not None:
            (self.folder / "pictures" / name).unlink()

    def carry_out(self, operations: Sequence[Sequence[Operation]]) -> None:
        """Let each process carry out its operations, and compare the index with what it may be."""
        named = [[self.named(one) for one in some] for some in operations]
        if self.at_once:
            for worker, some in zip(self.workers, named, strict=True):
                worker.begin(some)
            answers = [worker.answers() for worker in self.workers]
        else:
            answers = []
            for worker, some in zip(self.workers, named, strict=True):
                worker.begin(some)
                answers.append(worker.answers())
        done = [list(zip(some, said, strict=True)) for some, said in zip(operations, answers, strict=True)]
        with closing(open_index(self.place, self.prefix)) as index:
            if index.fingerprint() is not None:
                self.compare(index, done)

    @contextmanager
    def noting(self, operations: Sequence[Sequence[Operation]]) -> Iterator[None]:
        """Keep what fails first: Hypothesis tries it again, and it may then succeed."""
        self.history.append((dict(self.files), operations))
        try:
            yield
        except BaseException as error:
            if not self.failures:
                self.failures.append((error, list(self.history)))
            raise

    def named(self, operation: Operation) -> list[object]:
        """Return an operation with the ids of pictures and the paths of files."""
        ids, _ = references()
        verb, *arguments = operation
        if verb == "delete" and arguments[0] in NAMES:
            return [verb, str(self.folder / "pictures" / arguments[0])]
        if verb in {"delete", "label", "set_add", "set_remove"}:
            return [verb, *(str(ids[one]) if one in ids else one for one in arguments)]
        return [verb, *arguments]

    def compare(
        self, index: SegmentIndex, done: Sequence[Sequence[tuple[Operation, Mapping[str, Any]]]]
    ) -> None:
        """Compare an index with what it may be after some operations of each process."""
        ids, stored = references()
        seen = self.states_in(index)
        for colour in COLOURS:
            steps = [
                [(step, maybe) for one in some for step, maybe in self.steps(colour, *one, process=number)]
                for number, some in enumerate(done)
            ]
            allowed = outcomes(self.pictures[colour], steps)
            assert seen[colour] in allowed, (
                f"{colour} is {seen[colour]}, but may be {allowed}; was {self.pictures[colour]}, {done}"
            )
        self.pictures = seen
        self.compare_embedder(index, done)
        self.compare_sets(index, done)
        points = points_of(index)
        assert self.embedder is not None
        for colour, state in self.pictures.items():
            assert points.pop(ids[colour], None) == (
                None if state is None else stored[self.embedder][colour]
            ), f"{colour}: {done}"
        assert not points, f"segments without a picture: {done}"
        kinds = {one.kind for one in examine(index, source=SOURCE)}
        assert kinds <= OF_FILES | UNFINISHED, done

    def compare_embedder(
        self, index: SegmentIndex, done: Sequence[Sequence[tuple[Operation, Mapping[str, Any]]]]
    ) -> None:
        switched = [
            [one[1] for one, said in some if one[0] == "reembed" and said["outcome"] == "ok"] for some in done
        ]
        last = {some[-1] for some in switched if some} or {self.embedder or "fine"}
        found = index.fingerprint()
        assert found is not None
        self.embedder = next(name for name in EMBEDDERS if EMBEDDERS[name].fingerprint == found.embedder)
        assert self.embedder in last, done

    def compare_sets(
        self, index: SegmentIndex, done: Sequence[Sequence[tuple[Operation, Mapping[str, Any]]]]
    ) -> None:
        ids, _ = references()
        sets = {
            one.name: {member.member_id for member in index.set_members(one.set_id)} for one in index.sets()
        }
        members = sets_by_member(index.members_of_images(list(ids.values())))
        for name in SETS:
            steps = [[one for pair in some for one in _of_set(name, None, *pair)] for some in done]
            assert (name in sets) in outcomes(self.sets[name], steps), f"set {name}: {done}"
            self.sets[name] = name in sets
            for colour in COLOURS:
                steps = [[one for pair in some for one in _of_set(name, colour, *pair)] for some in done]
                has = ids[colour] in sets.get(name, ())
                assert has in outcomes(self.members[name, colour], steps), f"{colour} in {name}: {done}"
                self.members[name, colour] = has
        for one in index.scroll_segments():
            assert one.sets == sets_of(one, members), done

    def steps(
        self, content: str, operation: Operation, said: Mapping[str, Any], *, process: int
    ) -> Iterator[tuple[Step[State], bool]]:
        """Yield the steps of an operation on a picture, each with whether it may be left out."""
        ids, _ = references()
        files = Files(dict(self.files))
        verb, *arguments = operation
        steps: list[Step[State]] = []
        match verb:
            case "ingest":
                for name in sorted(self.files):
                    mine = self.files[name] == content
                    steps.append(noted(name, arguments[0], files) if mine else left(name))
            case "upload" if arguments[0] == content:
                steps.append(noted(f"{UPLOAD}{content}", (), files))
            case "delete" if str(ids[content]) in said["deleted"]:
                steps.append(left(arguments[0]) if arguments[0] in NAMES else deleted)
            case "sync":
                steps.append(synced(files))
            case "reembed":
                steps.append(reembedded(content, files))
            case "label" if arguments[0] == content:
                steps.append(labelled(f"person:p{process}", arguments[1]))
        # a re-embedding that was refused changed nothing; other operations may have done a part
        for _ in range(0 if verb == "reembed" else said["refused_before"]):
            yield from ((step, True) for step in steps)
        if said["outcome"] != "refused":
            yield from ((step, said["outcome"] == "partly") for step in steps)

    def states_in(self, index: SegmentIndex) -> dict[str, State]:
        """Return the states of the pictures of an index."""
        ids, _ = references()
        records = {record.image_id: record for record in index.scroll_images()}
        labels: dict[UUID, set[tuple[str, str]]] = {}
        for one in index.scroll_segments():
            labels.setdefault(one.image_id, set()).update((label.author, label.name) for label in one.labels)
        found: dict[str, State] = dict.fromkeys(COLOURS)
        for colour, image_id in ids.items():
            if image_id in records:
                record = records[image_id]
                found[colour] = Picture(
                    frozenset(self.name_of(file.uri) for file in record.files),
                    frozenset(record.tags),
                    frozenset(labels.get(image_id, ())),
                )
        assert set(records) <= set(ids.values())
        return found

    def name_of(self, uri: str) -> str:
        path = uri_to_path(uri)
        return f"{UPLOAD}{path.parent.name}" if path.name == "upload.png" else path.name

    def teardown(self) -> None:
        """Bring the index up to date: then nothing is found that is damaged."""
        if sys.exc_info()[0] is not None:
            return
        last: list[list[Operation]] = [[("ingest", []), ("sync",), ("tidy",)], [], []]  # type: ignore[list-item]
        with self.noting(last):
            self.carry_out(last)
            with closing(open_index(self.place, self.prefix)) as index:
                if index.fingerprint() is not None:
                    assert list(examine(index, source=SOURCE)) == []


def _of_set(
    name: str, colour: str | None, operation: Operation, said: Mapping[str, Any]
) -> Iterator[tuple[Step[bool], bool]]:
    """Yield what an operation does to a set, or with a colour to whether the set has the picture."""
    verb, *arguments = operation
    if not verb.startswith("set_") or arguments[0] != name:
        return
    if verb == "set_remove" and colour is None:
        return
    if verb != "set_delete" and colour not in (None, arguments[1]):
        return
    step = partial(_become, verb == "set_add")
    for _ in range(said["refused_before"]):
        yield step, True
    if said["outcome"] != "refused":
        yield step, False


def _become(value: bool, _: bool) -> bool:
    return value


def run(place: Callable[[], tuple[str, str, Path]], *, runs: int, at_once: bool) -> None:
    failures: list[tuple[BaseException, object]] = []
    with processes(PROCESSES) as workers:
        given = {"at": staticmethod(place), "workers": workers, "at_once": at_once, "failures": failures}
        try:
            run_state_machine_as_test(
                seed(SEED)(type("Machine", (AnyOrder,), given)),
                settings=settings(
                    max_examples=runs,
                    stateful_step_count=5,
                    deadline=None,
                    database=None,
                    # what processes do at once is not the same twice: nothing can be made smaller
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                ),
            )
        except Exception:
            for error, history in failures:
                raise AssertionError(f"seed {SEED}: {history}") from error
            raise


@pytest.mark.slow
@pytest.mark.qdrant
@pytest.mark.promise(
    "Index",
    "Three processes may ingest, upload, tag, label, delete, synchronize and re-embed at once: the index is "
    "as after one at a time.",
)
def test_three_processes_at_once_leave_what_some_order_leaves(
    qdrant_server: QdrantServer, fast_folder: Path, tried: Tried
) -> None:
    def place() -> tuple[str, str, Path]:
        return qdrant_server.url, f"any-{uuid4().hex[:8]}", fast_folder / uuid4().hex

    run(place, runs=RUNS, at_once=True)

    tried(RUNS, "random orders")


@pytest.mark.slow
@pytest.mark.promise(
    "Ingest", "Processes that change an embedded index by turns leave what their order leaves."
)
def test_processes_by_turns_leave_what_their_order_leaves(fast_folder: Path, tried: Tried) -> None:
    def place() -> tuple[str, str, Path]:
        folder = fast_folder / uuid4().hex
        return str(folder / "index"), "", folder

    runs = max(RUNS // 6, 3)
    run(place, runs=runs, at_once=False)

    tried(runs, "random orders")
