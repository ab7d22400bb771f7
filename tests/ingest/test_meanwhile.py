"""A picture that another process deletes or changes at any moment ends no run."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Tried
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter

from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import IndexMismatchError
from segdex_core.media.uris import canonical_uri
from segdex_core.records import SegmentFilter
from segdex_core.wire.images import FAILED
from segdex_ingest.analyse import Embedding, Recipe
from segdex_ingest.recolour import images_without_colours, measure_colours
from segdex_ingest.reembed import ReembedOptions, reembed_index
from segdex_ingest.report import IngestReport
from segdex_ingest.run import IngestOptions, ingest_into
from segdex_ingest.sync import apply_sync, plan_sync

SOURCE = FileSource()
RECIPE = Recipe(FloodSegmenter(), ColourEmbedder(), replace(SMALL_FRAME, points_per_side=2, crop_layers=0))
OTHER = Recipe(FloodSegmenter(), ColourEmbedder(), replace(SMALL_FRAME, points_per_side=3, crop_layers=0))
NEW = Embedding(ColourEmbedder(samples_per_side=16))
COLOURS = ((220, 30, 30), (30, 160, 60), (30, 60, 220))


class Shared:
    """An index in which something happens before one of the calls of a run, as by another process.

    Args:
        index: The index.
        at: Number of the call, from 0; None for never.
        happens: What happens.
    """

    def __init__(self, index: MemoryIndex, *, at: int | None, happens: Callable[[MemoryIndex], None]) -> None:
        self._index, self._at, self._happens = index, at, happens
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._index, name)
        if not callable(found) or name == "fingerprint":
            return found

        def called(*values: object, **named: object) -> object:
            number, self.calls = self.calls, self.calls + 1
            if number == self._at:
                with suppress(IndexMismatchError):  # a re-embedding refuses writes at its end
                    self._happens(self._index)
            return found(*values, **named)

        return called


def draw(folder: Path, name: str, colour: tuple[int, int, int]) -> Path:
    folder.mkdir(exist_ok=True)
    image = np.full((40, 48, 3), 255, np.uint8)
    image[4:30, 4:30] = colour
    Image.fromarray(image).save(folder / name)
    return folder / name


def ingest(
    index: object, folder: Path, *, recipe: Recipe = RECIPE, tags: tuple[str, ...] = ()
) -> IngestReport:
    return ingest_into(
        index,  # type: ignore[arg-type] # it forwards every call
        recipe,
        [canonical_uri(path) for path in sorted(folder.iterdir())],
        source=SOURCE,
        profile="test",
        options=IngestOptions(max_pixels=10_000, max_bytes=1_000_000, tags=tags),
    )


def retag(index: object, folder: Path) -> None:
    check(ingest(index, folder, tags=("new",)))


def redo(index: object, folder: Path) -> None:
    check(ingest(index, folder, recipe=OTHER))


def replaced(index: object, folder: Path) -> None:
    draw(folder, "a.png", COLOURS[2])
    check(ingest(index, folder))


def renamed(index: object, folder: Path) -> None:
    (folder / "a.png").rename(folder / "c.png")
    check(ingest(index, folder))


def synced(index: Any, folder: Path) -> None:
    draw(folder, "copy.png", COLOURS[1])
    ingest(index, folder)
    (folder / "a.png").unlink()
    (folder / "b.png").unlink()
    apply_sync(plan_sync(index, source=SOURCE), index)


def recoloured(index: Any, folder: Path) -> None:
    index.set_colours({one.segment_id: None for one in index.scroll_segments()})
    measure_colours(index, images_without_colours(index), source=SOURCE, max_pixels=10_000)


def reembedded(index: Any, folder: Path) -> None:
    reembed_index(index, NEW, source=SOURCE, profile="test", options=ReembedOptions(max_pixels=10_000))


def check(report: IngestReport) -> None:
    assert not report.interrupted
    assert not any(report.counts[outcome] for outcome in FAILED)


def delete(index: MemoryIndex) -> None:
    """Delete every picture."""
    for record in list(index.scroll_images()):
        index.delete_image(record.image_id)


def change(index: MemoryIndex) -> None:
    """Tag every picture."""
    for record in list(index.scroll_images()):
        index.update_image(replace(record, tags=(*record.tags, "theirs")))


@pytest.mark.promise("Ingest", "A picture that is deleted or changed at any moment of an ingest ends no run.")
@pytest.mark.parametrize("run", [retag, redo, replaced, renamed, synced, recoloured, reembedded])
@pytest.mark.parametrize("happens", [delete, change])
def test_what_others_do_at_any_call_ends_no_run(
    tmp_path: Path,
    run: Callable[[object, Path], None],
    happens: Callable[[MemoryIndex], None],
    tried: Tried,
) -> None:
    at, calls = 0, 1
    while at < calls:
        folder, index = tmp_path / str(at), MemoryIndex()
        draw(folder, "a.png", COLOURS[0])
        draw(folder, "b.png", COLOURS[1])
        ingest(index, folder)
        shared = Shared(index, at=at, happens=happens)

        run(shared, folder)

        calls = max(calls, shared.calls)
        at += 1
        for record in index.scroll_images():
            held = list(index.scroll_segments(SegmentFilter(image_ids=(record.image_id,))))
            assert len(held) == record.segment_count
            assert all(one.tags == record.tags for one in held)
    tried(at, "moments at which another process deletes or tags the pictures of a run")
