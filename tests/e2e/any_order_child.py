"""A process that carries out operations on one index: each line of its input and of its output is JSON.

It opens the index for each operation and closes it, as the command line does. A connection to a server stays.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.fakes.embedder import ColourEmbedder
from tests.fakes.tiny import OPTIONS, RECIPE, SOURCE, ingest_tiny

from segdex.usecases.labels import label_index
from segdex.usecases.manage import delete_images, sync_index
from segdex.usecases.sets import Sets
from segdex.usecases.uploads import keep_upload
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.index.server_connection import ServerConnection
from segdex_backends.index.server_store import ServerStore
from segdex_core.errors import IndexConflictError, IndexMismatchError, IndexMissingError, UsageError
from segdex_core.ids import make_image_id, sha256_hex
from segdex_core.media.uris import canonical_uri
from segdex_core.records import SegmentFilter
from segdex_core.wire.labels import LabelRequest
from segdex_ingest.analyse import Embedding, Recipe
from segdex_ingest.reembed import ReembedOptions, reembed_index
from segdex_ingest.report import FAILED
from segdex_ingest.run import ingest_into

EMBEDDERS = {"fine": ColourEmbedder(), "coarse": ColourEmbedder(samples_per_side=7)}
RECIPES = {name: replace(RECIPE, embedder=embedder) for name, embedder in EMBEDDERS.items()}
_NAMES = {embedder.fingerprint: name for name, embedder in EMBEDDERS.items()}
_MAX_TRIES = 50


@dataclass
class Answer:
    """What became of an operation.

    Attributes:
        outcome: ``ok``; ``refused`` if nothing was done; ``partly`` if it stopped half-way.
        detail: Why it was refused.
        refused_before: How often the vectors were replaced meanwhile, so that it was done again.
        deleted: Ids of the pictures that were deleted, or lost a file.
    """

    outcome: str = "ok"
    detail: str = ""
    refused_before: int = 0
    deleted: list[str] = field(default_factory=list)


class KeptConnection(ServerConnection):
    """A connection that outlives the indexes that are opened over it: to make one is slow."""

    def close(self) -> None:
        """Keep it."""


_CONNECTIONS: dict[str, KeptConnection] = {}


def open_index(place: str, prefix: str) -> QdrantIndex:
    """Return the index in a folder, or with a prefix on a server; it is created if it is missing."""
    if not place.startswith("http"):
        return QdrantIndex(EdgeStore(Path(place), create=True))
    if place not in _CONNECTIONS:
        _CONNECTIONS[place] = KeptConnection(place, timeout_s=60)
    return QdrantIndex(ServerStore(_CONNECTIONS[place], create=True, collection_prefix=prefix))


def recipe_of(index: QdrantIndex) -> Recipe:
    """Return the recipe of the vectors of an index: a command goes on with the embedder that filled it."""
    found = index.fingerprint()
    return RECIPES["fine" if found is None else _NAMES[found.embedder]]


class Worker:
    """Carries out the operations of one process on one index."""

    def __init__(self, place: str, prefix: str, folder: str, name: str) -> None:
        self._place, self._prefix, self._folder, self._name = place, prefix, Path(folder), name
        self._verbs: dict[str, Callable[..., Answer]] = {
            "ingest": self.ingest,
            "upload": self.upload,
            "delete": self.delete,
            "sync": self.sync,
            "reembed": self.reembed,
            "label": self.label,
            "set_add": self.set_add,
            "set_remove": self.set_remove,
            "set_delete": self.set_delete,
            "tidy": self.tidy,
        }

    def do(self, verb: str, *arguments: Any) -> Answer:
        """Carry out an operation, again while other processes replace the vectors."""
        for refused in range(_MAX_TRIES):
            try:
                with closing(open_index(self._place, self._prefix)) as index:
                    try:
                        answer = self._verbs[verb](index, *arguments)
                    except IndexMissingError as error:
                        if index.fingerprint() is not None:
                            raise
                        answer = Answer("refused", str(error))
            except IndexMismatchError:
                time.sleep(0.01)
                continue
            answer.refused_before = refused
            return answer
        raise AssertionError(f"{verb} was refused {_MAX_TRIES} times")

    def ingest(self, index: QdrantIndex, tags: list[str]) -> Answer:
        report = ingest_tiny(index, self._folder / "pictures", recipe=recipe_of(index), tags=tags)
        failed = [f"{one.outcome}: {one.detail}" for one in report.files if one.outcome in FAILED]
        assert not failed, failed
        return Answer()

    def upload(self, index: QdrantIndex, colour: str) -> Answer:
        data = (self._folder / "contents" / colour).read_bytes()
        file = keep_upload(data, self._folder / "uploads" / colour, name="upload.png")
        ingest_into(
            index,
            recipe_of(index),
            [canonical_uri(file)],
            source=SOURCE,
            profile="offline",
            known_ids=[make_image_id(sha256_hex(data))],
            options=OPTIONS,
        )
        return Answer()

    def delete(self, index: QdrantIndex, target: str) -> Answer:
        try:
            deleted = delete_images(index, [target])
        except UsageError as error:
            return Answer("refused", str(error))
        return Answer(deleted=[str(one) for one in (*deleted.images, *(kept.id for kept in deleted.kept))])

    def sync(self, index: QdrantIndex) -> Answer:
        try:
            sync_index(index, source=SOURCE, dry_run=False, force=True)
        except IndexConflictError as error:  # the next sync completes the work
            return Answer("partly", str(error))
        return Answer()

    def reembed(self, index: QdrantIndex, embedder: str) -> Answer:
        try:
            report = reembed_index(
                index,
                Embedding(EMBEDDERS[embedder]),
                source=SOURCE,
                profile="offline",
                options=ReembedOptions(max_pixels=10_000, skip_missing=True),
            )
        except (UsageError, IndexConflictError) as error:  # all files are gone, or another one is switching
            return Answer("refused", str(error))
        return Answer() if report.index is not None else Answer("refused", "nothing to do")

    def label(self, index: QdrantIndex, image_id: str, name: str) -> Answer:
        where = SegmentFilter(image_ids=(UUID(image_id),))
        first = next((one.segment_id for one in index.scroll_segments(where)), None)
        if first is None:
            return Answer("refused", "no such picture")
        request = LabelRequest(labels=[name], segments=[first], by=self._name)
        with suppress(UsageError):  # deleted in the meantime
            label_index(request, index=index, models=None, learnt=None, writing=nullcontext())  # type: ignore[arg-type]
        return Answer()

    def set_add(self, index: QdrantIndex, name: str, member_id: str) -> Answer:
        return self._of_sets(lambda: Sets(index, nullcontext()).add(name, [UUID(member_id)]))

    def set_remove(self, index: QdrantIndex, name: str, member_id: str) -> Answer:
        return self._of_sets(lambda: Sets(index, nullcontext()).remove(name, [UUID(member_id)]))

    def set_delete(self, index: QdrantIndex, name: str) -> Answer:
        return self._of_sets(lambda: Sets(index, nullcontext()).delete(name))

    def tidy(self, index: QdrantIndex) -> Answer:
        index.drop_unused()
        return Answer()

    def _of_sets(self, change: Callable[[], object]) -> Answer:
        try:
            change()
        except UsageError as error:  # there is no such picture or set, or another process made it meanwhile
            return Answer("refused", str(error))
        return Answer()


def main() -> None:
    """Answer each line."""
    worker: Worker | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        if "use" in asked:
            worker = Worker(**asked["use"])
            continue
        assert worker is not None
        try:
            said: Any = [asdict(worker.do(*one)) for one in asked["do"]]
        except Exception as error:  # noqa: BLE001 - the test names it
            import traceback

            said = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
