"""``Library``, ``Client`` and ``AsyncClient`` have the same verbs, arguments, results and errors."""

import asyncio
import inspect
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, cast
from uuid import UUID, uuid4

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel
from tests.awaited import Awaited
from tests.conftest import Tried
from tests.environment import no_variables
from tests.fakes.dataset import png
from tests.fakes.parts import LEFT, RIGHT, parts

from segdex.answers import Hit
from segdex.arguments import IngestProgress, QueryImage
from segdex.client import AsyncClient, Client, Filter, Region, ViewWeights, WeightedSegment, WeightedText
from segdex.client.errors import NotThereError
from segdex.jobs.runner import job_runner
from segdex.jobs.worker import JobWorker
from segdex.library import Library
from segdex.roles import ROLES
from segdex.wiring import build_settings, open_library
from segdex_core.errors import ImageError, NotFoundError, SegdexError, UsageError
from segdex_core.formats.polygons import mask_polygon
from segdex_core.masks import MaskRLE, decode_mask

__all__ = ["no_variables"]

Kind = Literal["library", "client", "async client"]
OVER_HTTP: tuple[Kind, ...] = ("client", "async client")
PARAMS = ["library", *(pytest.param(kind, marks=pytest.mark.service) for kind in OVER_HTTP)]


@dataclass(frozen=True, slots=True)
class Place:
    """An index of two pictures of coloured boxes, and who asks it.

    Attributes:
        library: A ``Library``, or a client, which has the verbs of one.
        folder: Where pictures, uploads and jobs lie.
    """

    library: Library
    folder: Path

    def picture(self, name: str) -> Path:
        return self.folder / "set" / "images" / name

    def image_id(self, name: str) -> UUID:
        return next(
            group.image.id
            for colour in ("red", "green")
            for group in self.library.search(colour).images
            if group.image.path.endswith(name)
        )

    def hit(self, text: str) -> Hit:
        return self.library.search(text, limit=1, per_image=1)[0]


@contextmanager
def opened(kind: Kind, folder: Path) -> Iterator[Place]:
    """Open a library of a kind over the pictures of a folder; jobs are carried out."""
    jobs = folder / "jobs"
    jobs.mkdir(exist_ok=True)
    with ExitStack() as stack:
        if kind == "library":
            settings = build_settings(
                uploads=folder / "uploads",
                job_roots=(jobs,),
                jobs_file=folder / "jobs.sqlite",
                cache_dir=folder / "cache",
            )
            library = stack.enter_context(open_library(settings, parts(folder / "set")))
            worker = stack.enter_context(closing(JobWorker(library.queue, job_runner(library))))
            worker.start()
            yield Place(library, folder)
            return
        from tests.loopback import serving  # the unit part of the tests imports no service

        url = stack.enter_context(serving(folder, job_roots=(jobs,))).url
        if kind == "client":
            yield Place(cast("Library", stack.enter_context(Client(url))), folder)
            return
        runner = stack.enter_context(asyncio.Runner())
        client = AsyncClient(url)
        stack.callback(lambda: runner.run(client.aclose()))
        yield Place(cast("Library", Awaited(client, runner)), folder)


@pytest.fixture(autouse=True)
def _clean(no_variables: None) -> None: ...


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one folder of all places that a test does not change."""
    return tmp_path_factory.mktemp("library")


@pytest.fixture(name="in_process", scope="module")
def _in_process(folder: Path) -> Iterator[Place]:
    with opened("library", folder) as place:
        yield place


@pytest.fixture(name="place", scope="module", params=PARAMS)
def _place(request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    """A place that the test does not change."""
    with opened(request.param, folder) as place:
        yield place


@pytest.fixture(name="new_place", params=PARAMS)
def _new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place that the test may change."""
    with opened(request.param, tmp_path) as place:
        yield place


MEASURED = {
    "timings_ms",
    "elapsed_s",
    "files_per_s",
    "left_s",
    "captured_s",
    "labelled_at",
    "created_at",
    "added_at",
}
"""Fields that are never the same twice; pictures without EXIF were captured when a place wrote them."""


def plain(value: Any) -> Any:  # noqa: PLR0911 - one for each kind of value
    """Return a result as values that can be compared, without what is measured."""
    if isinstance(value, BaseModel):
        return {name: plain(field) for name, field in value if name not in MEASURED}
    if isinstance(value, Image.Image):
        return value.mode, value.size, value.tobytes()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if hasattr(value, "response"):  # an answer, or masks
        return plain(value.response), [plain(one) for one in value]
    if hasattr(value, "record"):  # a segment, a hit or a mask
        names = ("record", "image", "is_match", "presence", "refinement")
        return {name: plain(getattr(value, name, None)) for name in names}
    if hasattr(value, "__iter__") and not isinstance(value, str | bytes):
        return [plain(one) for one in value]
    return value


def pages_of(place: Place, limit: int, *texts: str, **fields: Any) -> list[Any]:
    """Return every page of a question."""
    page: Any = place.library.search(*texts, **fields, limit=limit)
    found = []
    while page is not None:
        found.append(page)
        page = page.next_page()
    return found


def green_pixels() -> Any:
    with Image.open(BytesIO(png("green"))) as picture:
        return np.asarray(picture.convert("RGB"))


def file_of(place: Place, colour: str) -> Path:
    path = place.folder / f"{colour}.png"
    path.write_bytes(png(colour))
    return path


IN_GREEN = (25, 25, 75, 65)
ON_RED = [(30, 60)]

Case = Callable[[Place], Any]

SEARCHES: dict[str, Case] = {
    "a text": lambda at: at.library.search("blue"),
    "several texts": lambda at: at.library.search("red", "green"),
    "a weighted text": lambda at: at.library.search(WeightedText(text="green", weight=9), "red"),
    "a negative text": lambda at: at.library.search("red", "green", negative=["red"]),
    "a weighted negative text": lambda at: at.library.search(
        "red", "green", negative=[WeightedText(text="red", weight=3)]
    ),
    "a segment": lambda at: at.library.search(segments=[at.hit("green").id]),
    "a segment as text": lambda at: at.library.search(segments=[str(at.hit("green").id)]),
    "a weighted segment": lambda at: at.library.search(
        "green", segments=[WeightedSegment(segment_id=at.hit("red").id, weight=-1)]
    ),
    "a region": lambda at: at.library.search(
        regions=[Region(image_id=at.image_id("b.png"), box_xyxy=tuple(LEFT))]
    ),
    "a path": lambda at: at.library.search(image=file_of(at, "green")),
    "a path as text": lambda at: at.library.search(image=str(file_of(at, "green"))),
    "bytes": lambda at: at.library.search(image=png("green")),
    "a Pillow image": lambda at: at.library.search(image=Image.fromarray(green_pixels())),
    "an array": lambda at: at.library.search(image=green_pixels()),
    "a box in a picture": lambda at: at.library.search(image=QueryImage(png("green"), IN_GREEN)),
    "several pictures": lambda at: at.library.search(
        image=[QueryImage(png("green"), IN_GREEN, 0.5), png("red"), QueryImage(png("blue"), weight=-1)]
    ),
    "a text and a picture": lambda at: at.library.search(
        "blue", image=QueryImage(png("green"), IN_GREEN, 0.1)
    ),
    "the least area": lambda at: at.library.search("red", filter=Filter(min_area=0.3)),
    "a source": lambda at: at.library.search("red", filter=Filter(sources=[str(at.picture("b.png"))])),
    "a picture of the index": lambda at: at.library.search(
        "red", filter=Filter(image_ids=[at.image_id("b.png")])
    ),
    "a colour": lambda at: at.library.search("green", filter=Filter(colors=["blue"])),
    "a colour in the text": lambda at: at.library.search("green color:blue"),
    "a colour and its synonym": lambda at: at.library.search(
        "green", filter=Filter.model_validate({"colors": ["gray"]})
    ),
    "a text that is read in part": lambda at: at.library.search("red \u732b"),
    "no such tag": lambda at: at.library.search("red", filter=Filter(tags=["none"])),
    "limit": lambda at: at.library.search("red", limit=1),
    "per_image": lambda at: at.library.search("red", per_image=1),
    "min_score": lambda at: at.library.search("red", min_score=0.5),
    "matches_only": lambda at: at.library.search("orange", matches_only=True),
    "what is not there": lambda at: at.library.search("orange"),
    "without nms": lambda at: at.library.search("red", nms=False),
    "whole objects": lambda at: at.library.search("red", level="whole"),
    "parts": lambda at: at.library.search("red", level="part"),
    "exact": lambda at: at.library.search("red", exact=True),
    "diversity": lambda at: at.library.search("red", "green", diversity=1),
    "without duplicates": lambda at: at.library.search("red", "green", collapse_duplicates=True),
    "any of two pictures": lambda at: at.library.search(
        image=[png("red"), QueryImage(png("blue"), weight=-1)], combine="best"
    ),
    "pages of different pictures": lambda at: pages_of(at, 1, "red", diversity=0.5, collapse_duplicates=True),
    "explain": lambda at: at.library.search("red", negative=["blue"], image=png("red"), explain=True),
    "one view": lambda at: at.library.search("red", view_weights=ViewWeights(crop=1, mask=0)),
    "pages of a text": lambda at: pages_of(at, 1, "red", negative=["blue"], regions=[region_of(at)]),
    "pages of a picture": lambda at: pages_of(at, 1, image=png("red"), per_image=1),
}


def region_of(at: Place) -> Region:
    return Region(image_id=at.image_id("a.png"))


def segment_in_a(at: Place, **prompt: Any) -> Any:
    return at.library.segment(image_id=at.image_id("a.png"), **prompt)


def first_mask(at: Place) -> Any:
    return segment_in_a(at, points=ON_RED).mask


def exported(at: Place, *texts: str, name: str = "export", **arguments: Any) -> Any:
    """Return what an export says, and the content of its files but for times of files."""
    out = at.folder / f"{uuid4()}" / name
    record = at.library.export(out, *texts, **arguments)
    assert record.path == str(out)
    files = [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file())
    made = {str(path.relative_to(out.parent)): path.read_bytes() for path in files if path.suffix != ".csv"}
    return record.model_copy(update={"path": ""}), made


CASES: dict[str, dict[str, Case]] = {
    "export": {
        "a question as COCO": lambda at: exported(at, "red", format="coco", limit=1, name="red.json"),
        "all for YOLO": lambda at: exported(at, format="yolo", everything=True, tolerance_px=2.0),
        "all of a color for FiftyOne": lambda at: exported(
            at, format="fiftyone", everything=True, filter=Filter(colors=["red"]), pictures="none"
        ),
        "polygons of whole objects with a category": lambda at: exported(
            at, format="coco-polygons", everything=True, level="whole", category="thing", pictures="copy"
        ),
        "segments by their ids": lambda at: exported(
            at, format="coco", segment_ids=[at.hit("green").id, str(at.hit("red").id)]
        ),
        "what looks like a picture": lambda at: exported(at, image=png("red"), format="coco", limit=1),
        "refined masks": lambda at: exported(at, "red", format="coco", limit=1, refine=2),
        "an archive": lambda at: exported(at, "green", format="coco", limit=1, name="green.zip"),
        "cut-outs": lambda at: sorted(
            zipfile.ZipFile(BytesIO(exported(at, "red", format="zip", limit=1, name="z")[1]["z"])).namelist()
        ),
        "a table": lambda at: exported(at, format="csv", everything=True),
    },
    "search": SEARCHES,
    "similar": {
        "by id": lambda at: at.library.similar(at.hit("green").id, limit=2),
        "by the text of an id": lambda at: at.library.similar(str(at.hit("green").id), per_image=1),
        "beside other segments": lambda at: at.library.similar(
            at.hit("green").id, segments=[at.hit("red").id]
        ),
        "to any of several": lambda at: at.library.similar([at.hit("green").id, at.hit("red").id]),
        "to several together": lambda at: at.library.similar(
            [at.hit("green").id, at.hit("red").id], combine="mean"
        ),
        "unlike another": lambda at: at.library.similar(at.hit("green").id, unlike=at.hit("red").id),
        "a hit, unlike others": lambda at: at.hit("green").similar(unlike=[at.hit("red").id]),
        "of a hit": lambda at: at.hit("green").similar(limit=1),
        "of a segment": lambda at: at.library.show(at.hit("green").id).similar(negative=["red"]),
    },
    "refine": {
        "by ids": lambda at: at.library.refine("red", segment_ids=[at.hit("red").id, at.hit("blue").id]),
        "by the text of an id, twice": lambda at: at.library.refine(
            "red", segment_ids=[str(at.hit("red").id)] * 2
        ),
        "for pictures": lambda at: at.library.refine(
            image=[png("red"), QueryImage(png("blue"), IN_GREEN, -0.5)], segment_ids=[at.hit("red").id]
        ),
        "for all terms": lambda at: at.library.refine(
            "red",
            segment_ids=[at.hit("red").id],
            segments=[at.hit("green").id],
            regions=[region_of(at)],
            negative=["blue"],
            view_weights=ViewWeights(crop=1, mask=0),
        ),
        "a hit": lambda at: at.hit("red").refine(),
        "a hit of a picture": lambda at: at.library.search(image=png("red"), limit=1)[0].refine(),
        "a hit that looks like another": lambda at: at.library.similar(at.hit("red").id)[0].refine(),
        "the first hits": lambda at: at.library.search("red", "green").refined(first=3),
        "no hit": lambda at: at.library.search("red", filter=Filter(tags=["none"])).refined(),
    },
    "segment": {
        "a point": lambda at: segment_in_a(at, points=ON_RED),
        "points on it and off it": lambda at: segment_in_a(at, points=ON_RED, negative_points=[(110, 60)]),
        "a box": lambda at: segment_in_a(at, box=(5, 25, 60, 95)),
        "an earlier mask": lambda at: segment_in_a(at, points=ON_RED, mask=first_mask(at)),
        "a text": lambda at: segment_in_a(at, text="blue"),
        "a text in a box": lambda at: segment_in_a(at, text="blue", box=(90, 20, 160, 100)),
        "three masks": lambda at: segment_in_a(at, points=ON_RED, masks=3),
        "a picture as bytes": lambda at: at.library.segment(png("red"), points=[(40, 40)]),
        "a picture as an array": lambda at: at.library.segment(green_pixels(), points=[(40, 40)]),
        "a file": lambda at: at.library.segment(file_of(at, "red"), box=(15, 15, 85, 75)),
    },
    "show": {
        "by id": lambda at: at.library.show(at.hit("red").id),
        "crop": lambda at: at.library.show(at.hit("red").id).crop(0.2),
        "cutout": lambda at: at.library.show(str(at.hit("red").id)).cutout(),
        "polygon": lambda at: at.library.show(at.hit("red").id).polygon(),
    },
    "image": {"by id": lambda at: at.library.image(at.image_id("a.png"))},
    "image_file": {
        "small": lambda at: at.library.image_file(at.image_id("a.png"), 80),
        "whole": lambda at: at.library.image_file(str(at.image_id("a.png"))),
    },
    "find_ids": {
        "of a segment": lambda at: at.library.find_ids(at.hit("red").id.hex[:6]),
        "of a picture": lambda at: at.library.find_ids(str(at.image_id("a.png"))),
    },
    "image_segments": {"of a picture": lambda at: at.library.image_segments(at.image_id("a.png"))},
    "pixels": {
        "all": lambda at: at.library.pixels(at.image_id("a.png")),
        "in a box": lambda at: at.library.pixels(at.image_id("a.png"), RIGHT),
        "in a box over the edge": lambda at: at.library.pixels(at.image_id("a.png"), (150, 110, 900, 900)),
    },
    "stats": {"all": lambda at: at.library.stats()},
    "labels": {"all": lambda at: at.library.labels()},
    "sets": {"none": lambda at: at.library.sets()},
    "concepts": {"none": lambda at: at.library.concepts()},
}
"""What changes nothing, by verb."""


def new_folder(at: Place, *colours: str) -> Path:
    folder = at.folder / "jobs" / "new"
    folder.mkdir()
    for colour in colours:
        (folder / f"{colour}.png").write_bytes(png(colour))
    return folder


def ingests(at: Place) -> Any:
    folder = new_folder(at, "orange", "pink")
    (folder / "damaged.png").write_bytes(png("cyan")[:150])
    (folder / "notes.txt").write_text("no picture")
    reports = [at.library.ingest(folder, tags=["new"]), at.library.ingest(folder, tags=["new"])]
    return [
        [(report.outcomes, report.segments, report.interrupted, report.skipped_folders, report.has_failures)]
        + [(file.outcome, file.image_id, file.segments, Path(file.path).name) for file in report.files]
        for report in reports
    ]


def ingests_some(at: Place) -> Any:
    folder = new_folder(at, "orange", "pink", "cyan")
    report = at.library.ingest(folder, exclude=["cyan*"], limit=1)
    return report.outcomes, [Path(file.path).name for file in report.files]


def uploads(at: Place) -> Any:
    picture = file_of(at, "orange")
    done = at.library.upload(picture, tags=["b", "a"])
    again = at.library.upload(png("orange"))
    array = at.library.upload(green_pixels(), name="green")
    return [done, again, array] + [at.library.image(one.image_id or "") for one in (done, array)]


def deletes(at: Place) -> Any:
    found = at.image_id("a.png"), at.image_id("b.png")
    by_id = at.library.delete(found[0])
    by_file = at.library.delete(at.picture("b.png"))
    return found, by_id, by_file, at.library.stats().images


def deletes_a_folder(at: Place) -> Any:
    both = at.library.delete(at.folder / "set" / "images")
    return sorted(both.images), both.segments


def queues(at: Place) -> Any:
    job = at.library.add_job([new_folder(at, "orange")], tags=["new"])
    last = list(at.library.watch_job(job.id))[-1]
    uploaded = at.library.upload(png("pink"), wait=False)
    states = [one.status for one in at.library.watch_job(uploaded.job_id or "")]
    listed = at.library.jobs()
    kept = (last == at.library.job(job.id), last == at.library.stop_job(job.id))
    return (
        [(one.paths, one.tags, one.status, one.counts, one.segments, one.total) for one in (last, *listed)],
        (uploaded.outcome, uploaded.image_id, states[-1]),
        kept,
        at.library.stats().images,
    )


def labels(at: Place) -> Any:
    """Label by words and as a person, look, and clear."""
    names = ["red", "green", "orange"]
    dry = at.library.label(*names, min_score=0.5, dry_run=True)
    several = at.library.label(*names, min_score=0.2, several=True)
    by_model = at.library.label(*names, min_score=0.5)
    hit = at.hit("red")
    by_person = at.library.label("my box", segments=[hit.id, str(hit.id)], by="anna")
    found = at.library.search("red", filter=Filter(labels=["my box", "none"]))
    shown = [(one.name, one.author, one.score) for one in at.library.show(hit.id).record.labels]
    counts = at.library.labels(), at.library.stats().labels
    cleared = at.library.clear_labels("red")
    return (
        dry,
        several,
        by_model,
        by_person,
        [one.id for one in found],
        shown,
        counts,
        cleared,
        [
            at.library.clear_labels(authors=["person", "model"]),
            at.library.labels(),
        ],
    )


def sets(at: Place) -> Any:
    """Make, fill, rename, search and delete sets."""
    red, green = at.hit("red"), at.hit("green")
    results = [
        at.library.create_set("  reds "),
        at.library.add_to_set("reds", red.id, str(red.id)),
        at.library.add_to_set("all of b", green.image.id, green.id),
        at.library.sets(),
        [one.id for one in at.library.search("red", filter=Filter(sets=["reds"]))],
        [one.id for one in at.library.search("red", filter=Filter(sets=["reds", "all of b"]))],
        at.library.rename_set("reds", "my reds"),
        at.library.remove_from_set("all of b", green.id, uuid4()),
        at.library.delete(green.image.id),
        at.library.show_set("all of b"),
        at.library.show_set("my reds"),
        at.library.delete_set("my reds"),
        at.library.sets(),
    ]
    return [plain(one) for one in results]


def concepts(at: Place) -> Any:
    """Make, change, search, rename and delete concepts."""
    red, green, blue = at.hit("red"), at.hit("green"), at.hit("blue")
    results = [
        at.library.mark("reds", text="red", right=[red.id], wrong=[str(green.id)]),
        at.library.mark("greens", right=[green.id]),
        at.library.mark("greens", wrong=[blue.id], neither=[uuid4()]),
        at.library.concepts(),
        at.library.show_concept("reds"),
        [(one.id, one.score) for one in at.library.search("concept:greens -concept:reds", limit=1)],
        [(one.id, one.score) for one in at.library.search("red", "concept:greens^2", explain=True)],
        [one.segment_id for one in at.library.refine("concept:reds", segment_ids=[red.id])],
        at.library.rename_concept("reds", "my-reds"),
        at.library.mark("my-reds", right=[green.id], neither=[red.id]),
        at.library.delete(green.image.id),
        at.library.show_concept("my-reds"),
        at.library.delete_concept("my-reds"),
        at.library.concepts(),
    ]
    return [plain(one) for one in results]


def examined(at: Place) -> Any:
    """Examine a sound index, a damaged one, mend it, and examine it again."""
    sound = at.library.doctor()
    at.picture("b.png").unlink()
    part = at.folder / "uploads" / ("0" * 64) / "x.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    os.utime(part, (1, 1))
    damaged, mended, again = at.library.doctor(), at.library.doctor(fix=True), at.library.doctor(fix=True)
    assert sound.findings == []
    assert [one.kind for one in damaged.findings] == ["missing_file", "upload_part"]
    assert [(one.fixable, one.fixed) for one in mended.findings] == [(False, False), (True, True)]
    assert [one.kind for one in again.findings] == ["missing_file"]
    assert (damaged.left, mended.left, part.exists()) == (2, 1, False)
    return [plain(one) for one in (sound, damaged, mended, again)]


def imports(at: Place) -> Any:
    """Rename a label in an export, and take it back from a file and from bytes."""
    library = at.library
    library.label("old", segments=[at.hit("red").id], by="anna")
    out = at.folder / "out" / "all.json"
    library.export(out, format="coco", everything=True)
    renamed = out.read_bytes().replace(b'"name": "old"', b'"name": "new"')
    dry = library.import_labels(renamed, format="coco", by="anna", dry_run=True)
    before = library.labels()
    out.write_bytes(renamed)
    done = library.import_labels(out, format="coco", by="anna", min_iou=0.7, overrule=True)
    again = library.import_labels(str(out), format="coco", by="anna", remove_missing=True)
    return dry, before, done, again, library.labels()


CHANGES: dict[str, Case] = {
    "imports": imports,
    "doctor": examined,
    "concepts": concepts,
    "sets": sets,
    "labels": labels,
    "ingest": ingests,
    "ingest some": ingests_some,
    "upload": uploads,
    "delete": deletes,
    "delete a folder": deletes_a_folder,
    "jobs": queues,
}
"""What changes the index or the queue."""

CHANGED_BY = {
    "show_set",
    "create_set",
    "add_to_set",
    "remove_from_set",
    "rename_set",
    "delete_set",
    "show_concept",
    "mark",
    "rename_concept",
    "delete_concept",
    "label",
    "clear_labels",
    "import_labels",
    "ingest",
    "upload",
    "delete",
    "doctor",
    "jobs",
    "job",
    "watch_job",
    "add_job",
    "stop_job",
}


@pytest.mark.parametrize("verb", [verb for verb, role in ROLES.items() if role is not None])
def test_a_verb_has_the_same_arguments_everywhere(verb: str) -> None:
    found = [inspect.signature(getattr(kind, verb)).parameters for kind in (Library, Client, AsyncClient)]

    assert [(one.name, one.kind, one.default) for one in found[0].values()] == [
        (one.name, one.kind, one.default) for one in found[1].values()
    ]
    assert found[1] == found[2]


def test_every_verb_with_a_role_is_compared_and_no_other_is_offered_over_http() -> None:
    offered = {verb for verb, role in ROLES.items() if role is not None}

    assert set(CASES) | CHANGED_BY == offered
    for verb in set(ROLES) - offered:
        assert callable(getattr(Library, verb))
        assert not hasattr(Client, verb)
        assert not hasattr(AsyncClient, verb)


@pytest.mark.service
@pytest.mark.parametrize("place", OVER_HTTP, indirect=True)
@pytest.mark.parametrize(
    ("verb", "name"),
    [pytest.param(verb, name, id=f"{verb}: {name}") for verb, cases in CASES.items() for name in cases],
)
def test_a_service_answers_as_a_library_does(in_process: Place, place: Place, verb: str, name: str) -> None:
    case = CASES[verb][name]

    assert plain(case(place)) == plain(case(in_process))


@pytest.mark.service
@pytest.mark.parametrize("kind", OVER_HTTP)
@pytest.mark.parametrize("name", CHANGES)
def test_a_service_changes_as_a_library_does(tmp_path: Path, kind: Kind, name: str) -> None:
    results = []
    for chosen in ("library", kind):
        folder = tmp_path / "work"
        folder.mkdir()
        with opened(chosen, folder) as place:
            results.append(plain(CHANGES[name](place)))
        folder.rename(tmp_path / chosen)  # so that both had files of the same names

    assert results[0] == results[1]


# Properties of each kind alone.


def test_labels_say_who_wrote_them_and_are_found_by_a_filter(new_place: Place) -> None:
    library = new_place.library
    hit = new_place.hit("red")

    dry = library.label("red", "green", min_score=0.5, dry_run=True)
    assert library.labels().counts == {}
    report = library.label("red", "green", min_score=0.5)
    assert report.counts == dry.counts
    assert report.counts["red"] >= 1
    assert report.counts["green"] >= 1
    assert report.segments == library.stats().segments
    assert sum(report.counts.values()) == report.labelled
    assert library.labels().counts == library.stats().labels == report.counts
    [label] = library.show(hit.id).record.labels
    assert (label.name, label.author) == ("red", report.author)
    assert report.author.startswith("model:")
    red = library.search("red", filter=Filter(labels=["red"]))
    assert len(red) == report.counts["red"]
    assert all("red" in [one.name for one in found.record.labels] for found in red)

    library.label("red", "mine", segments=[hit.id], by="anna")
    assert library.label("green", min_score=0.5).counts == {"green": report.counts["green"]}
    assert {(one.name, one.author) for one in library.show(hit.id).record.labels} == {
        ("red", "person:anna"),
        ("mine", "person:anna"),
    }
    assert library.clear_labels().counts == {"green": report.counts["green"]}
    assert library.labels().counts == {"mine": 1, "red": 1}


def test_a_picture_that_is_deleted_leaves_its_sets(new_place: Place) -> None:
    library = new_place.library
    red, green = new_place.hit("red"), new_place.hit("green")
    library.add_to_set("kept", red.id, green.image.id)
    of_green = {one.id for one in library.image_segments(green.image.id)}
    found = {one.id for one in library.search("red", filter=Filter(sets=["kept"]), per_image=100, nms=False)}
    assert found == {red.id} | of_green

    copy = new_place.folder / "jobs" / "b.png"
    copy.write_bytes(new_place.picture("b.png").read_bytes())
    library.delete(green.image.id)
    assert [one.id for one in library.show_set("kept").members] == [red.id]
    library.ingest(copy)

    again = {one.id for one in library.search("red", filter=Filter(sets=["kept"]), per_image=100, nms=False)}
    assert again == {red.id}
    library.delete_set("kept")
    with pytest.raises(SegdexError, match="there is no set 'kept'"):
        library.search("red", filter=Filter(sets=["kept"]))


@pytest.mark.parametrize(
    ("ask", "saying"),
    [
        (lambda library: library.create_set("a/b"), "the name of a set must be 1 to 100 letters"),
        (lambda library: library.create_set(" "), "the name of a set must be"),
        (lambda library: library.add_to_set("x" * 101, uuid4()), "the name of a set must be"),
        (lambda library: library.add_to_set("none"), "ids must not be empty"),
        (lambda library: library.add_to_set("none", "17"), "'17' is no id"),
        (lambda library: library.add_to_set("none", uuid4()), "there is no segment or picture"),
        (lambda library: library.show_set("none"), "there is no set 'none'"),
        (lambda library: library.remove_from_set("none", uuid4()), "there is no set 'none'"),
        (lambda library: library.rename_set("none", "other"), "there is no set 'none'"),
        (lambda library: library.delete_set("none"), "there is no set 'none'"),
        (lambda library: library.search("red", filter=Filter(sets=["none"])), "there is no set 'none'"),
    ],
)
def test_a_set_that_is_not_there_or_not_allowed_is_refused_in_one_line(
    place: Place, ask: Callable[[Library], Any], saying: str
) -> None:
    with pytest.raises(SegdexError, match=saying) as raised:
        ask(place.library)
    assert "\n" not in str(raised.value)
    assert place.library.sets().sets == []


def test_a_concept_learns_and_forgets_deleted_pictures(new_place: Place) -> None:
    library = new_place.library
    red, green = new_place.hit("red"), new_place.hit("green")

    def answer(text: str) -> list[Any]:
        return [(one.id, one.score) for one in library.search(text, per_image=100, nms=False)]

    def lead(text: str) -> float:
        scores = dict(answer(text))
        return float(scores[green.id] - scores[red.id])

    library.mark("mine", text="red")
    assert answer("concept:mine") == answer("red")
    assert answer("concept:mine -green") == answer("red -green")
    library.mark("mine", right=[green.id], wrong=[red.id])
    assert lead("concept:mine") > lead("red") + 0.1
    learnt = answer("concept:mine")
    library.mark("greens", right=[green.id])
    assert library.search("concept:greens", limit=1, per_image=1)[0].id == green.id
    library.mark("mine", neither=[green.id, red.id])
    assert answer("concept:mine") == answer("red")
    library.mark("mine", right=[green.id], wrong=[red.id])
    assert answer("concept:mine") == learnt

    library.delete(green.image.id)
    assert [one.segment_id for one in library.show_concept("mine").marks] == [red.id]
    assert [one.name for one in library.concepts().concepts] == ["mine"]  # nothing was left of the other one


@pytest.mark.parametrize(
    ("ask", "saying"),
    [
        (lambda library: library.mark("a b", text="red"), "the name of a concept must be 1 to 100 letters"),
        (lambda library: library.mark("new"), "give segments that are right or wrong, or a text"),
        (lambda library: library.mark("new", text="..."), "has no word"),
        (lambda library: library.mark("new", text="concept:other"), "cannot name another one"),
        (lambda library: library.mark("new", right=[uuid4()]), "there is no segment"),
        (lambda library: library.mark("new", neither=[uuid4()]), "needs a text, or a segment that is right"),
        (lambda library: library.mark("new", right=["17"]), "'17' is no id"),
        (lambda library: library.mark("new", right=[UUID(int=7)], wrong=[UUID(int=7)]), "is given twice"),
        (lambda library: library.show_concept("none"), "there is no concept 'none'"),
        (lambda library: library.rename_concept("none", "other"), "there is no concept 'none'"),
        (lambda library: library.delete_concept("none"), "there is no concept 'none'"),
        (lambda library: library.search("red -concept:none"), "there is no concept 'none'"),
    ],
)
def test_a_concept_that_is_not_there_or_not_allowed_is_refused_in_one_line(
    place: Place, ask: Callable[[Library], Any], saying: str
) -> None:
    with pytest.raises(SegdexError, match=saying) as raised:
        ask(place.library)
    assert "\n" not in str(raised.value)
    assert place.library.concepts().concepts == []


def test_two_concepts_do_not_have_one_name(new_place: Place) -> None:
    library = new_place.library
    library.mark("one", text="red")
    library.mark("two", text="blue")

    with pytest.raises(SegdexError, match="there is a concept 'one' already"):
        library.rename_concept("two", "one")
    assert library.rename_concept("two", "two").name == "two"
    assert [(one.name, one.text) for one in library.concepts().concepts] == [("one", "red"), ("two", "blue")]


def test_two_sets_do_not_have_one_name(new_place: Place) -> None:
    library = new_place.library
    library.create_set("one")
    library.create_set("two")

    with pytest.raises(SegdexError, match="there is a set 'one' already"):
        library.create_set("one")
    with pytest.raises(SegdexError, match="there is a set 'one' already"):
        library.rename_set("two", "one")
    assert library.rename_set("two", "two").name == "two"
    assert [one.name for one in library.sets().sets] == ["one", "two"]


@pytest.mark.parametrize(
    ("arguments", "options", "saying"),
    [
        ([], {}, "labels must not be empty"),
        (["???"], {}, "a label must have a letter or digit"),
        (["x" * 101], {}, "100 characters or less"),
        (["cat"], {"min_score": 0}, "min_score must be above 0"),
        (["cat"], {"segments": ["17"]}, "segments"),
        (["cat"], {"segments": [str(uuid4())], "several": True}, "cannot go with segments"),
        (["cat"], {"segments": [str(uuid4())]}, "there is no segment"),
    ],
)
def test_a_label_that_is_not_allowed_is_refused_in_one_line(
    place: Place, arguments: list[str], options: dict[str, Any], saying: str
) -> None:
    with pytest.raises(SegdexError, match=saying) as raised:
        place.library.label(*arguments, **options)
    assert "\n" not in str(raised.value)
    with pytest.raises(SegdexError, match=r"must be some of model, concept, person, but got 'robot'"):
        place.library.clear_labels(authors=cast("Any", ["robot"]))


def test_an_answer_is_a_sequence_with_matches_first(place: Place) -> None:
    answer = place.library.search("red")

    assert len(answer) == len(list(answer)) == len(answer.hits) > 2
    assert answer[0].image.path.endswith("a.png")
    assert [hit.id for hit in answer[:2]] == [hit.id for hit in answer][:2]
    assert [(not hit.is_match, -hit.score) for hit in answer] == sorted(
        (not hit.is_match, -hit.score) for hit in answer
    )
    assert {hit.is_match for hit in answer} == {True, False}
    assert sorted(hit.id for group in answer.images for hit in group.hits) == sorted(hit.id for hit in answer)
    for group in answer.images:
        assert {hit.image.id for hit in group.hits} == {group.image.id}
        assert group.score == group.hits[0].score == max(hit.score for hit in group.hits)


def test_several_segments_find_each_and_leave_out_what_is_more_like_another(place: Place) -> None:
    red, green, blue = (place.hit(colour) for colour in ("red", "green", "blue"))

    several = place.library.similar([red.id, green.id], per_image=9)
    without = place.library.similar([red.id, green.id], unlike=[blue.id], per_image=9)

    assert {red.id, green.id} <= {hit.id for hit in several if hit.score > 0.99}
    by_search = place.library.search(segments=[red.id, green.id], combine="best", per_image=9)
    assert [plain(hit) for hit in several] == [plain(hit) for hit in by_search]
    assert blue.id in {hit.id for hit in several}
    assert blue.id not in {hit.id for hit in without}
    assert {red.id, green.id} <= {hit.id for hit in without}


@pytest.mark.parametrize("kind", ["text", "picture", "region"])
def test_pages_are_one_large_answer(place: Place, kind: str) -> None:
    texts = ["red", "green"] if kind == "text" else []
    questions: dict[str, dict[str, Any]] = {
        "text": {"per_image": 2},
        "picture": {"image": png("red")},
        "region": {"regions": [region_of(place)], "negative": ["blue"]},
    }
    question = questions[kind]
    [whole] = pages_of(place, 10, *texts, **question)
    pages = pages_of(place, 1, *texts, **question)

    assert [len(page.images) for page in pages] == [1, 1]
    assert [plain(group.hits) for page in pages for group in page.images] == [
        plain(group.hits) for group in whole.images
    ]


def test_a_hit_is_its_picture_in_every_form(place: Place) -> None:
    hit = place.hit("red")
    with Image.open(place.picture("a.png")) as opened_file:
        pixels = np.asarray(opened_file.convert("RGB"))
    mask = decode_mask(MaskRLE(hit.rle.size, hit.rle.counts))
    box, wide = hit.box, hit.crop_box(0.25)

    assert (hit.mask == mask).all()
    assert hit.mask.shape == pixels.shape[:2]
    assert int(mask.sum()) == hit.area_px
    assert hit.polygon() == mask_polygon(mask)
    assert (np.asarray(hit.crop()) == pixels[box.y1 : box.y2, box.x1 : box.x2]).all()
    assert wide.area_px > box.area_px
    assert (np.asarray(hit.crop(0.25)) == pixels[wide.y1 : wide.y2, wide.x1 : wide.x2]).all()
    cutout = np.asarray(hit.cutout())
    assert ((cutout[..., 3] > 0) == mask[box.y1 : box.y2, box.x1 : box.x2]).all()
    assert (cutout[..., :3] == pixels[box.y1 : box.y2, box.x1 : box.x2]).all()


def test_a_hit_refined_alone_is_the_hit_refined_among_others(place: Place) -> None:
    answer = place.library.search("red", "green")
    refined = list(answer.refined(first=3))

    assert [hit.id for hit in refined] == [hit.id for hit in answer[:3]]
    for before, after in zip(answer, refined, strict=False):
        assert plain(before.refine()) == plain(after)
        assert after.refinement is not None
        changed = after.refinement.answer == "refined"
        assert after.rle == (after.refinement.rle if changed else before.rle)
    assert {hit.refinement.answer for hit in refined if hit.refinement is not None} == {"refined"}
    assert all(int(hit.mask.sum()) == hit.area_px for hit in refined)


@pytest.mark.parametrize("kind", PARAMS)
def test_a_hit_is_refined_by_an_instance_that_never_saw_the_answer(kind: Kind, folder: Path) -> None:
    with opened(kind, folder) as asked:
        hit = asked.hit("red")
        here = hit.refine().refinement
    with opened(kind, folder) as fresh:
        [there] = fresh.library.refine("red", segment_ids=[hit.id])

    assert plain(there) == plain(here)


def test_masks_are_those_of_the_best_one_and_cut_the_object_out(place: Place) -> None:
    masks = place.library.segment(png("red"), points=[(40, 40)], masks=3)
    cutout = np.asarray(masks.cutout(png("red")))
    box = masks.box

    assert len(masks) == len(list(masks)) == 3
    assert [one.predicted_iou for one in masks] == sorted((one.predicted_iou for one in masks), reverse=True)
    assert tuple(box) == tuple(masks[0].box) == (20, 20, 80, 70)
    assert masks.mask.shape == (90, 120)
    assert int(masks.mask.sum()) == masks.area_px == 60 * 50
    assert cutout.shape == (50, 60, 4)
    assert (cutout[..., 3] == 255).all()
    for other in (png("red", (60, 45)), png("red", (240, 180))):
        with pytest.raises(ValueError, match="no mask of a picture of"):
            masks.cutout(other)


def test_an_ingest_tells_of_each_file_and_skips_what_it_has(new_place: Place) -> None:
    folder = new_folder(new_place, "orange", "pink")
    started: list[int] = []
    told: list[str] = []
    progress = IngestProgress(on_start=started.append, on_file=lambda file: told.append(file.outcome))
    first = new_place.library.ingest(folder, tags=["new"], progress=progress)
    second = new_place.library.ingest(folder, tags=["new"], progress=progress)

    assert (first.outcomes["added"], second.outcomes["unchanged"]) == (2, 2)
    assert first.segments > 0
    assert second.segments == 0
    assert started == [2, 2]
    assert told == ["added", "added", "unchanged", "unchanged"]
    assert new_place.library.search("orange", filter=Filter(tags=["new"]))[0].is_match


def test_a_colour_filter_returns_segments_in_that_colour_alone(place: Place) -> None:
    by_field = place.library.search("green", filter=Filter(colors=["blue"]), per_image=9)
    by_text = place.library.search("green colour:BLUE", per_image=9)

    assert [hit.id for hit in by_field] == [hit.id for hit in by_text]
    assert len(by_field) > 0
    assert all(hit.colors is not None and hit.colors["blue"] >= 0.25 for hit in by_field)


def test_what_is_deleted_is_found_no_more(new_place: Place) -> None:
    library, red = new_place.library, new_place.hit("red")
    with pytest.raises(UsageError, match="no picture"):
        library.delete(red.image.id, uuid4())
    assert library.image(red.image.id) == red.image  # all or nothing

    deleted = library.delete(red.image.id)

    assert deleted.images == [red.image.id]
    assert deleted.segments == red.image.segment_count
    assert library.stats().images == 1
    for lost in (lambda: library.image(red.image.id), lambda: library.show(red.id)):
        with pytest.raises(NotFoundError):
            lost()


@pytest.mark.promise("Index", "Forgetting one of two copies keeps the picture, which lies elsewhere too.")
def test_a_file_or_folder_that_is_deleted_leaves_the_copies_elsewhere(new_place: Place) -> None:
    library, jobs = new_place.library, new_place.folder / "jobs"
    for name in ("phone/both", "phone/only", "backup/both"):
        path = jobs / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png("orange" if name.endswith("both") else "pink"))
    list(library.watch_job(library.add_job([jobs]).id))
    orange = library.search("orange", limit=1)[0]
    before = library.stats().images

    deleted = library.delete(jobs / "phone")

    assert (len(deleted.images), deleted.places) == (1, 2)
    [kept] = deleted.kept
    assert (kept.id, kept.path, kept.removed) == (orange.image.id, str(jobs / "backup" / "both.png"), 1)
    assert library.stats().images == before - 1
    backup = Filter(sources=[str(jobs / "backup")])
    assert library.search("orange", limit=1, filter=backup)[0].image.path == kept.path
    assert len(library.search("orange", filter=Filter(sources=[str(jobs / "phone")]))) == 0
    last = library.delete(jobs / "backup" / "both.png")
    assert (last.images, last.places, last.kept) == ([orange.image.id], 1, [])


def test_an_id_that_is_deleted_takes_all_copies_with_it(new_place: Place) -> None:
    library, jobs = new_place.library, new_place.folder / "jobs"
    for name in ("a", "b", "c"):
        (jobs / f"{name}.png").write_bytes(png("orange"))
    list(library.watch_job(library.add_job([jobs]).id))
    orange = library.search("orange", limit=1)[0]

    deleted = library.delete(orange.image.id, jobs / "a.png")

    assert (deleted.images, deleted.places, deleted.kept) == ([orange.image.id], 3, [])


NOBODY = UUID("00000000-0000-5000-8000-000000000000")

NOT_THERE: dict[str, Case] = {
    "show": lambda at: at.library.show(NOBODY),
    "image": lambda at: at.library.image(NOBODY),
    "image_file": lambda at: at.library.image_file(NOBODY),
    "image_segments": lambda at: at.library.image_segments(str(NOBODY)),
    "pixels": lambda at: at.library.pixels(NOBODY),
    "refine": lambda at: list(at.library.refine("red", segment_ids=[NOBODY])),
    "segment": lambda at: at.library.segment(image_id=NOBODY, points=ON_RED),
    "search": lambda at: at.library.search(regions=[Region(image_id=NOBODY)]),
    "job": lambda at: at.library.job(str(NOBODY)),
    "stop_job": lambda at: at.library.stop_job(str(NOBODY)),
    "watch_job": lambda at: list(at.library.watch_job(str(NOBODY))),
}


@pytest.mark.parametrize("verb", NOT_THERE)
def test_what_is_not_there_is_named(place: Place, verb: str) -> None:
    with pytest.raises(NotFoundError, match=str(NOBODY)):
        NOT_THERE[verb](place)


def search(**fields: Any) -> Case:
    return lambda at: at.library.search(**{"image": png("red"), **fields})


def segment(**prompt: Any) -> Case:
    return lambda at: at.library.segment(png("red"), **prompt)


def export(*texts: str, name: str = "never", **arguments: Any) -> Case:
    return lambda at: at.library.export(at.folder / name, *texts, **{"format": "coco", **arguments})


NO_VIEW: Any = {"crop": 0, "mask": 0}

WRONG: dict[str, tuple[Case, str]] = {
    "no question": (lambda at: at.library.search(), "texts"),
    "only negative": (lambda at: at.library.search(negative=["red"]), "texts"),
    "only unlike a picture": (search(image=QueryImage(png("red"), weight=-1)), "to look for"),
    "an empty text": (lambda at: at.library.search(""), "text"),
    "half a character": (lambda at: at.library.search("\ud800"), "text"),
    "a control character": (lambda at: at.library.search("red\0"), "text"),
    "too many texts": (lambda at: at.library.search(*["red"] * 17), "texts"),
    "an empty negative text": (search(negative=[""]), "negative"),
    "limit": (search(limit=0), "limit"),
    "limit of a text": (lambda at: at.library.search("red", limit=1_001), "limit"),
    "limit in words": (search(limit="many"), "limit"),
    "per_image": (search(per_image=101), "per_image"),
    "level": (search(level="half"), "level"),
    "min_score": (search(min_score=float("nan")), "min_score"),
    "cursor": (search(cursor="abc"), "cursor"),
    "an unknown field": (search(colour="red"), "colour"),
    "a filter": (search(filter={"max_area": 2}), "max_area"),
    "an unknown colour": (search(filter={"colors": ["teal"]}), "colors"),
    "an unknown colour in the text": (lambda at: at.library.search("car color:teal"), "one of black, white"),
    "a colour and nothing else": (lambda at: at.library.search("color:red"), "to look for"),
    "a relative source": (search(filter=Filter(sources=["a"])), "source"),
    "an unknown segment": (search(segments=["x"]), "segments"),
    "a segment that is not there": (lambda at: at.library.similar(NOBODY), str(NOBODY)),
    "similar to nothing": (lambda at: at.library.similar([]), "id of a segment"),
    "unlike no id": (lambda at: at.library.similar(NOBODY, unlike="x"), "no id"),
    "any of texts": (lambda at: at.library.search("red", combine="best"), "leave texts and concepts out"),
    "diversity": (search(diversity=2), "diversity"),
    "similar to no id": (lambda at: at.library.similar("x"), "no id"),
    "no view": (search(view_weights=NO_VIEW), "view_weights"),
    "a box outside": (search(image=QueryImage(png("red"), (900, 900, 901, 901))), "box"),
    "a box before": (search(image=QueryImage(png("red"), (-1, 0, 9, 9))), "box_xyxy"),
    "a box of three": (search(image=QueryImage(png("red"), (1, 2, 3))), "box_xyxy"),  # type: ignore[arg-type]
    "a weight of nothing": (search(image=QueryImage(png("red"), weight=0)), "weight"),
    "too many pictures": (search(image=[png("red")] * 5), "image"),
    "a wrong array": (search(image=np.zeros((4, 4), np.uint8)), r"\(4, 4\)"),
    "a number as picture": (search(image=7), "int"),
    "a missing file": (search(image="no-such-file.png"), "no-such-file"),
    "no segment to refine": (lambda at: list(at.library.refine("red", segment_ids=[])), "segment_ids"),
    "nothing to refine for": (
        lambda at: list(at.library.refine(segment_ids=[at.hit("red").id])),
        "to look for",
    ),
    "to refine for no view": (
        lambda at: list(at.library.refine("red", segment_ids=[at.hit("red").id], view_weights=NO_VIEW)),
        "view_weights",
    ),
    "to refine with a limit": (
        lambda at: list(at.library.refine("red", segment_ids=[at.hit("red").id], limit=3)),  # type: ignore[call-arg]
        "limit",
    ),
    "to refine no hit": (lambda at: list(at.library.search("red").refined(first=0)), "first must be"),
    "an unnamed object": (segment(), "at least one point"),
    "a point outside": (segment(points=[(900, 1)]), "outside the picture"),
    "points in another form": (segment(points=(30, 60)), "points"),
    "negative points in another form": (segment(negative_points=[(1, 2, 3)]), "negative_points"),
    "a box in another form": (segment(box=(1, 2, 3)), "box"),
    "a text with points": (segment(text="red", points=ON_RED), "text"),
    "two masks": (segment(points=ON_RED, masks=2), "masks"),
    "a mask of another size": (segment(points=ON_RED, mask=np.eye(4, dtype=bool)), "mask"),
    "a mask of numbers": (segment(points=ON_RED, mask=np.eye(4)), "mask"),
    "an unknown part of a prompt": (segment(points=ON_RED, box_xyxy=(1, 2, 3, 4)), "box_xyxy"),
    "a picture and an id": (segment(points=ON_RED, image_id=NOBODY), "either a picture"),
    "neither a picture nor an id": (lambda at: at.library.segment(points=ON_RED), "either a picture"),
    "a segment of no id": (lambda at: at.library.show("x"), "no id"),
    "a picture of no id": (lambda at: at.library.image("../stats"), "no id"),
    "too large a file": (lambda at: at.library.image_file(at.image_id("a.png"), 9_999), "max_px"),
    "pixels outside": (lambda at: at.library.pixels(at.image_id("a.png"), (900, 0, 901, 1)), "box"),
    "pixels before": (lambda at: at.library.pixels(at.image_id("a.png"), (-9, 0, 9, 9)), "box"),
    "to ingest nothing": (lambda at: at.library.ingest(at.folder / "nothing"), "nothing"),
    "to ingest none": (lambda at: at.library.ingest(at.folder, limit=0), "limit"),
    "an empty tag": (lambda at: at.library.ingest(at.folder, tags=[" "]), "tag"),
    "a tag of an upload": (lambda at: at.library.upload(png(), tags=["a" * 101]), "tag"),
    "to upload a missing file": (lambda at: at.library.upload("no-such-file.png"), "no-such-file"),
    "to delete nothing": (lambda at: at.library.delete(NOBODY), str(NOBODY)),
    "to delete a missing file": (lambda at: at.library.delete("no-such-file.png"), "no-such-file"),
    "to export nothing": (export(), "everything"),
    "to export in no format": (export("red", format="voc"), "format"),
    "to export what does not match": (
        export(everything=True, filter=Filter(tags=["none"])),
        "nothing to export",
    ),
    "to export a question and everything": (export("red", everything=True), "only one of"),
    "to export a picture and everything": (export(image=png("red"), everything=True), "only one of"),
    "to export a set that is not there": (export(everything=True, filter=Filter(sets=["none"])), "no set"),
    "to export a segment that is not there": (export(segment_ids=[NOBODY]), str(NOBODY)),
    "to export too many refined": (export("red", refine=101), "refine"),
    "to export all of them refined": (export(everything=True, refine=1), "refine needs a question"),
    "to export with a cursor": (export("red", cursor="abc"), "cursor"),
    "to export into a folder with files": (export("red", name="set"), "is not empty"),
    "to export over a file": (export("red", name="set/segments.jsonl"), "exists"),
    "to export pictures as one document": (export("red", pictures="copy", name="a.json"), "is a folder"),
    "to export another document": (export("red", name="a.csv"), "is a folder, a .json file"),
    "to export cut-outs with pictures": (export("red", format="zip", pictures="copy"), "cut-outs"),
    "to export an empty category": (export("red", category=" "), "category"),
    "to export too coarse polygons": (export("red", tolerance_px=-1.0), "tolerance_px"),
    "a job elsewhere": (lambda at: at.library.add_job(["/etc"]), "/etc"),
    "a job of nothing": (lambda at: at.library.add_job([]), "paths"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_in_one_line(place: Place, name: str) -> None:
    case, words = WRONG[name]

    with pytest.raises(UsageError, match=words) as caught:
        case(place)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"no picture", png("orange")[:150]], ids=["text", "half"])
def test_what_is_no_picture_is_refused_everywhere(new_place: Place, data: bytes) -> None:
    library, before = new_place.library, new_place.library.stats()
    file = new_place.folder / "file.png"
    file.write_bytes(data)

    for given in (data, file):
        for verb in (
            lambda given=given: library.upload(given),
            lambda given=given: library.search(image=given),
            lambda given=given: library.segment(given, points=ON_RED),
        ):
            with pytest.raises((ImageError, UsageError)) as caught:
                verb()
            assert "\n" not in str(caught.value)
    assert library.stats() == before
    assert not (new_place.folder / "uploads").exists()


def test_what_needs_the_file_of_a_picture_says_that_it_is_gone_and_the_rest_works(new_place: Place) -> None:
    library, hit = new_place.library, new_place.hit("red")
    image_id = hit.image.id
    new_place.picture("a.png").unlink()

    for verb in (
        lambda: library.pixels(image_id),
        lambda: library.image_file(image_id),
        lambda: library.search(regions=[Region(image_id=image_id)]),
        hit.crop,
        hit.cutout,
    ):
        with pytest.raises((ImageError, NotThereError)) as caught:
            verb()
        assert "a.png" in str(caught.value)
    with pytest.raises(SegdexError, match=r"a\.png"):
        hit.refine()
    assert plain(new_place.hit("red")) == plain(hit)
    assert library.show(hit.id).mask.any()


@pytest.mark.promise("Pictures", "A mask is never drawn on another picture than its own.")
def test_what_needs_the_file_of_a_picture_says_that_it_has_changed(new_place: Place, tried: Tried) -> None:
    library, hit = new_place.library, new_place.hit("red")
    image_id, path = hit.image.id, new_place.picture("a.png")
    before = library.image_file(image_id)
    library.segment(image_id=image_id, points=ON_RED)  # now its encoding is cached
    hit.refine()
    data, status = path.read_bytes(), path.stat()
    path.write_bytes(new_place.picture("b.png").read_bytes())
    verbs = (
        lambda: library.pixels(image_id),
        lambda: library.image_file(image_id),
        lambda: library.search(regions=[Region(image_id=image_id)]),
        lambda: library.segment(image_id=image_id, points=ON_RED),
        hit.refine,
        hit.crop,
        hit.cutout,
    )

    for verb in verbs:
        with pytest.raises(SegdexError, match=r"a\.png: has changed since it was ingested.*segdex ingest"):
            verb()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(SegdexError, match="has changed since it was ingested"):
        hit.cutout()
    path.write_bytes(data)
    assert library.image_file(image_id) == before
    tried(len(verbs), "verbs on a file that was replaced")


def test_a_place_that_is_no_file_is_an_error_of_a_picture(place: Place) -> None:
    for verb in (place.library.upload, lambda path: place.library.search(image=path)):
        with pytest.raises(ImageError, match="images"):
            verb(place.folder / "set" / "images")


def test_a_color_that_nothing_has_is_not_explained_where_colors_are_measured(place: Place) -> None:
    found = place.library.search("red", filter=Filter(colors=["pink"])).response

    assert found.hits == []
    assert found.hints == []


def test_ids_are_found_by_their_first_digits(place: Place) -> None:
    hit = place.hit("red")
    others = [one.id for one in place.library.image_segments(hit.image.id) if one.id != hit.id]

    for whole, kind in ((hit.id, "segment"), (hit.image.id, "image")):
        for prefix in (str(whole), whole.hex, str(whole)[:9], f" {whole.hex[:8].upper()} ", whole.hex[:4]):
            found = place.library.find_ids(prefix).ids
            assert (whole, kind) in [(one.id, one.kind) for one in found]
            assert all(one.id.hex.startswith(prefix.strip().lower().replace("-", "")) for one in found)
    assert [one.id for one in place.library.find_ids(others[0].hex).ids] == [others[0]]
    assert place.library.find_ids("0" * 32).ids == []
    for wrong in ("", "abc", "abc-", "redy", "a" * 33, "../a", "abcd/x"):
        with pytest.raises(UsageError, match="4 or more hexadecimal digits"):
            place.library.find_ids(wrong)
