"""Everything that changes an index, on a folder of small pictures, for tests that kill it at its writes."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import RLock
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid5

import numpy as np
import pytest
from PIL import Image
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.point_store import KilledStore, MemoryStore, Moment, Stored
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter

from segdex.usecases.concepts import Concepts
from segdex.usecases.manage import delete_images, sync_index
from segdex.usecases.sets import Sets
from segdex_backends.index.layout import real_names
from segdex_backends.index.point_store import PointStore, StoredPoint
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.sources.files import FileSource
from segdex_core.dump import IndexDump
from segdex_core.errors import IndexMismatchError, NotFoundError
from segdex_core.media.uris import canonical_uri
from segdex_core.ports.embedder import Embedder
from segdex_core.records import SegmentLabel
from segdex_core.wire.concepts import MarkRequest
from segdex_ingest import run
from segdex_ingest.analyse import AnalysedImage, Embedding, Recipe
from segdex_ingest.analyse import analyse as analyse_really
from segdex_ingest.dump import dump_index, restore_into
from segdex_ingest.recolour import images_without_colours, measure_colours
from segdex_ingest.reembed import ReembedOptions, reembed_index
from segdex_ingest.report import IngestReport
from segdex_ingest.run import IngestOptions, ingest_into

OPTIONS = IngestOptions(max_pixels=10_000, max_bytes=1_000_000)
SETTINGS = replace(SMALL_FRAME, points_per_side=2, crop_layers=0)
OLD = Recipe(FloodSegmenter(), ColourEmbedder(), SETTINGS)
NEW = replace(OLD, generator=replace(SETTINGS, segments_per_image=1))
NEW_EMBEDDER = ColourEmbedder(samples_per_side=3)
REEMBEDDED = replace(OLD, embedder=NEW_EMBEDDER)
SOURCE = FileSource()
COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (30, 60, 220), "yellow": (240, 220, 40)}
NOW_S = 1_700_000_000.0


def make_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Analyse equal bytes once, and give sets and concepts the same times and ids in each run."""

    @cache
    def analysed(data: bytes, recipe: str, name: str) -> AnalysedImage:
        known = {one.fingerprint(): one for one in (OLD, NEW, REEMBEDDED)}
        return analyse_really(data, known[recipe], name=name, max_pixels=10_000)

    def cached(data: bytes, recipes: Any, *, name: str, **_: object) -> AnalysedImage:
        return analysed(data, recipes.load().fingerprint(), name)

    clock = SimpleNamespace(time=lambda: NOW_S)
    monkeypatch.setattr(run, "analyse", cached)
    monkeypatch.setattr("segdex.usecases.sets.time", clock)
    monkeypatch.setattr("segdex.usecases.concepts.time", clock)
    monkeypatch.setattr("segdex.usecases.sets.uuid4", lambda: uuid5(UUID(int=0), "the set"))


class Folder:
    """A folder of small pictures, which are drawn if there are none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        if any(root.iterdir()):
            return
        for name, colour in {"a": "red", "b": "green", "c": "red"}.items():
            self.draw(f"{name}.png", colour, mtime_s=1000)

    def draw(self, name: str, colour: str, *, mtime_s: int = 2000) -> None:
        """Write a picture; one colour is always the same bytes."""
        image = np.full((40, 48, 3), 255, np.uint8)
        image[4:30, 4:20] = COLOURS[colour]
        image[8:20, 28:40] = COLOURS["blue"]
        Image.fromarray(image).save(self.root / name)
        os.utime(self.root / name, (mtime_s, mtime_s))

    def uris(self) -> list[str]:
        return [canonical_uri(path) for path in sorted(self.root.iterdir())]


def ingest(index: QdrantIndex, folder: Folder, recipe: Recipe = OLD, *tags: str) -> IngestReport:
    return ingest_into(
        index, recipe, folder.uris(), source=SOURCE, profile="test", options=replace(OPTIONS, tags=tags)
    )


def ingest_as_it_is(index: QdrantIndex, folder: Folder) -> None:
    """Ingest with the embedder of the index, and give up a re-embedding that was stopped."""
    found = index.fingerprint()
    recipe = REEMBEDDED if found is not None and found.embedder == NEW_EMBEDDER.fingerprint else OLD
    try:
        ingest(index, folder, recipe)
    except IndexMismatchError:
        index.drop_unused()
        ingest(index, folder, recipe)


def sync(index: QdrantIndex) -> None:
    sync_index(index, source=SOURCE, dry_run=False, force=True)


@dataclass(frozen=True)
class Operation:
    """Something that changes an index.

    Attributes:
        run: Carries it out.
        before: Changes the files or the index of an ingest of the folder.
        starts_empty: Whether there is no index before.
        form: Gives what is stored before the form of an earlier segdex.
        repairs: Whether an ordinary ingest and a sync bring the index to one state, wherever it was killed.
    """

    run: Callable[[QdrantIndex, Folder], object]
    before: Callable[[QdrantIndex, Folder], object] = lambda *_: None
    starts_empty: bool = False
    form: Callable[[Stored], Stored] = lambda stored: stored
    repairs: bool = True


def _red(index: QdrantIndex) -> list[UUID]:
    """Return the segments of the first picture."""
    first = next(index.scroll_images()).image_id
    return [one.segment_id for one in index.scroll_segments() if one.image_id == first]


def _label(index: QdrantIndex) -> None:
    label = SegmentLabel("cat", "person:me", None, NOW_S)
    index.set_labels({one.segment_id: [label] for one in index.scroll_segments()})


def _fill_set(index: QdrantIndex) -> None:
    images = [one.image_id for one in index.scroll_images()]
    _sets(index).add("both", [*_red(index), images[-1]])


def _delete_set(index: QdrantIndex) -> None:
    with suppress(NotFoundError):  # a run that was killed at its end has deleted it
        _sets(index).delete("both")


def _label_and_fill_set(index: QdrantIndex) -> None:
    _label(index)
    _fill_set(index)


def _remove(folder: Folder, *names: str) -> None:
    for name in names:
        (folder.root / name).unlink()


def _sets(index: QdrantIndex) -> Sets:
    return Sets(index, RLock())


def _without_colours(index: QdrantIndex, _: Folder) -> None:
    for batch in list(index.scroll_vectors()):
        index.upsert_segments(replace(batch, records=[replace(one, colours=None) for one in batch.records]))


def _recolour(index: QdrantIndex) -> None:
    measure_colours(index, images_without_colours(index), source=SOURCE, max_pixels=10_000)


def _early(point: StoredPoint) -> dict[str, object]:
    """Return a payload without what later schemas added."""
    return {key: value for key, value in point.payload.items() if key not in ("write", "revision")}


def _as_schema_3(stored: Stored) -> Stored:
    """Return what the last segdex of schema 3 would have stored."""
    description = {**(stored.description or {}), "schema_version": 3}
    del description["collections"]
    names = real_names(stored.description or {}, "memory")
    collections = {
        name: {
            key: StoredPoint(key, {**_early(point), "schema_version": 3}, point.row)
            for key, point in stored.collections[names[name]].items()
        }
        for name in ("segments", "images")
    }
    return Stored(description, collections)


def _concepts(index: QdrantIndex) -> Concepts:
    return Concepts(index, RLock())


def _mark_concept(index: QdrantIndex) -> None:
    _concepts(index).mark("mine", MarkRequest(text="a thing", right=_red(index)))


def _reembed(index: QdrantIndex, embedder: Embedder = NEW_EMBEDDER) -> None:
    reembed_index(
        index,
        Embedding(embedder),
        source=SOURCE,
        profile="test",
        options=ReembedOptions(max_pixels=10_000),
    )


def opened(stored: Stored, *, last: int | None = None, moment: Moment = "before") -> QdrantIndex:
    """Return the index of a process that dies at a write."""
    return QdrantIndex(cast("PointStore", KilledStore(MemoryStore(stored), last=last, moment=moment)))


@cache
def dump_of(folder: Folder) -> IndexDump:
    """Return a backup of an index of the folder."""
    index = opened(Stored())
    ingest(index, folder)
    _label_and_fill_set(index)
    _mark_concept(index)
    dump = dump_index(index)
    return replace(dump, images=list(dump.images))


def _swap(folder: Folder) -> None:
    a, b, other = (folder.root / name for name in ("a.png", "b.png", "other"))
    a.rename(other)
    b.rename(a)
    other.rename(b)


def _move(folder: Folder, old: str, new: str) -> None:
    (folder.root / old).rename(folder.root / new)


OPERATIONS: Mapping[str, Operation] = {
    "new": Operation(ingest, starts_empty=True),
    "replaced": Operation(ingest, lambda _, folder: folder.draw("b.png", "yellow")),
    "replaced by a copy": Operation(ingest, lambda _, folder: folder.draw("b.png", "red")),
    "renamed": Operation(ingest, lambda _, folder: _move(folder, "b.png", "z.png")),
    "renamed over another": Operation(ingest, lambda _, folder: _move(folder, "a.png", "b.png")),
    "swapped": Operation(ingest, lambda _, folder: _swap(folder)),
    "copied": Operation(ingest, lambda _, folder: folder.draw("d.png", "green")),
    "redone": Operation(lambda index, folder: ingest(index, folder, NEW)),
    "redone with labels and sets": Operation(
        lambda index, folder: ingest(index, folder, NEW),
        lambda index, _: _label_and_fill_set(index),
        repairs=False,
    ),
    "tagged": Operation(lambda index, folder: ingest(index, folder, OLD, "new"), repairs=False),
    "deleted": Operation(lambda index, folder: delete_images(index, [str(folder.root)])),
    "synced": Operation(
        lambda index, _: sync(index),
        lambda _, folder: _remove(folder, "a.png", "b.png"),
    ),
    "labelled": Operation(lambda index, _: _label(index), repairs=False),
    "set filled": Operation(lambda index, _: _fill_set(index), repairs=False),
    "set emptied": Operation(
        lambda index, _: _sets(index).remove("both", _red(index)),
        lambda index, _: _fill_set(index),
        repairs=False,
    ),
    "recoloured": Operation(lambda index, _: _recolour(index), _without_colours, repairs=False),
    "set deleted": Operation(
        lambda index, _: _delete_set(index), lambda index, _: _fill_set(index), repairs=False
    ),
    "concept marked": Operation(lambda index, _: _mark_concept(index), repairs=False),
    "concept renamed": Operation(
        lambda index, _: _concepts(index).rename("mine", "yours"),
        lambda index, _: _mark_concept(index),
        repairs=False,
    ),
    "re-embedded": Operation(lambda index, _: _reembed(index), repairs=False),
    "re-embedded once more": Operation(
        lambda index, _: _reembed(index, OLD.embedder), lambda index, _: _reembed(index), repairs=False
    ),
    "restored": Operation(
        lambda index, folder: restore_into(index, dump_of(folder)), starts_empty=True, repairs=False
    ),
    "former vectors dropped": Operation(
        lambda index, _: index.drop_unused(), lambda index, _: _reembed(index), repairs=False
    ),
    "migrated": Operation(lambda *_: None, form=_as_schema_3),
}
