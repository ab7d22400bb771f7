"""What crosses HTTP: light to load, strict where it is asked, and read by clients that are older than it."""

import inspect
import json
import subprocess
import sys
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ValidationError

from segdex_core.wire import document, images, jobs, labels, search, segments, sets
from segdex_core.wire.document import Document, utc_text
from segdex_core.wire.fields import StrictRequest
from segdex_core.wire.images import (
    BackedUp,
    Deleted,
    DroppedVectors,
    Health,
    ImageOut,
    Ingested,
    IngestedFile,
    IngestReportOut,
    MissingPicture,
    Reembedded,
    Restored,
    SkippedFolder,
    Stats,
    Synced,
)
from segdex_core.wire.jobs import Job, JobOutcome
from segdex_core.wire.labels import LabelCounts, LabelOut, LabelReport, LabelsCleared
from segdex_core.wire.search import (
    Filter,
    HitOut,
    HitSegmentOut,
    RefinementOut,
    RefinementsOut,
    Region,
    SearchRequest,
    SearchResponse,
    TermScore,
    WeightedSegment,
)
from segdex_core.wire.segments import MaskOut, MasksOut, PolygonOut, Rle
from segdex_core.wire.sets import SetChanged, SetDetails, SetMemberOut, SetOut, SetsOut, SetSummary

HEAVY = ("numpy", "PIL", "pycocotools", "scipy", "torch", "fastapi", "segdex_search", "segdex.http")


@pytest.mark.parametrize("module", ["segdex_core.wire.search", "segdex_core.wire.jobs", "segdex.client"])
def test_loading_it_loads_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


ONE = UUID("6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11")
RLE = Rle(size=(4, 4), counts="0")
IMAGE = ImageOut(
    id=ONE,
    path="/p/a.jpg",
    uris=["file:///p/a.jpg"],
    segment_count=1,
    width=4,
    height=4,
    captured_s=1_795_458_600.0,
    place_lat_lon=(1.5, 2.5),
    tags=["a"],
)
SEGMENT = HitSegmentOut(
    id=ONE,
    image_id=ONE,
    box_xyxy=(0, 0, 1, 1),
    area_px=1,
    area_fraction=0.1,
    predicted_iou=0.9,
    stability=0.9,
    object_score=0.5,
    touches_border=True,
    parent_id=None,
    depth=0,
    labels=[LabelOut(name="cup", author="person:me", score=None, labelled_at="2026-11-23T18:30:00Z")],
    rle=RLE,
    score=0.5,
    view_scores={"crop": 0.5},
    terms=[TermScore(term="a cup", weight=1, score=0.5)],
)
REFINEMENT = RefinementOut(
    segment_id=ONE,
    answer="kept",
    reason="no better",
    made_by="outline",
    iou_with_stored=0.9,
    gain=0.0,
    agreement=1.0,
    predicted_iou=0.9,
    box_xyxy=(0, 0, 1, 1),
    area_px=1,
    rle=RLE,
    timings_ms={"decode": 1.0},
)
ANSWERS: list[BaseModel] = [
    SearchResponse(
        id="a",
        answer="found",
        embedder="colours",
        segmenter="flood",
        profile="offline",
        timings_ms={"embed": 1.0},
        hits=[HitOut(rank=1, score=0.5, presence=1.0, is_match=True, image=IMAGE, segments=[SEGMENT])],
    ),
    RefinementsOut(refinements=[REFINEMENT]),
    MasksOut(
        masks=[MaskOut(predicted_iou=0.9, box_xyxy=(0, 0, 1, 1), area_px=1, rle=RLE)], timings_ms={"x": 1.0}
    ),
    PolygonOut(type="MultiPolygon", coordinates=[[[(0, 0), (1, 0), (0, 0)]]]),
    Ingested(outcome="queued", detail="", image_id=ONE, job_id="j"),
    IngestReportOut(
        outcomes={"added": 1},
        segments=2,
        elapsed_s=0.5,
        interrupted=False,
        files=[
            IngestedFile(uri="file:///p/a", path="/p/a", outcome="added", detail="", image_id=ONE, segments=2)
        ],
        skipped_folders=[SkippedFolder(path="/p", reason="permission denied")],
    ),
    Deleted(images=[ONE], segments=2),
    Synced(gone=["/p/a"], moved=1, orphans=0, images=3, dry_run=True),
    Reembedded(
        former="a",
        embedder="b",
        views="crops",
        images=3,
        embedded=2,
        segments=9,
        missing=[MissingPicture(id=ONE, path="/p/a", reason="gone")],
        unknown=0,
        colored=4,
        uncolored=1,
        switched=False,
        nothing_to_do=False,
        interrupted=False,
        elapsed_s=1.5,
        dry_run=False,
    ),
    DroppedVectors(sets=1),
    BackedUp(path="/backups/monday", images=3, segments=40, sets=1, concepts=2),
    Restored(path="/backups/monday", images=3, segments=40, sets=1, concepts=2, present=1),
    Stats(
        images=1,
        segments=2,
        segments_per_image=2.0,
        images_without_segments=0,
        profile="offline",
        embedder="colours",
        segmenter="flood",
        dimensions=16,
        views=["crop"],
        index_schema_version=4,
    ),
    LabelReport(
        counts={"cup": 1},
        labelled=1,
        segments=2,
        min_score=None,
        author="person:me",
        dry_run=False,
        elapsed_s=0.5,
    ),
    LabelCounts(counts={"cup": 1}),
    LabelsCleared(counts={"cup": 1}),
    SetsOut(sets=[SetSummary(name="a", segments=1, images=0, created_at="2026-11-23T18:30:00Z")]),
    SetOut(name="a", segments=1, images=0, created_at=None),
    SetDetails(
        name="a",
        segments=1,
        images=0,
        created_at=None,
        members=[SetMemberOut(id=ONE, kind="segment", image_id=ONE, is_present=True, added_at=None)],
    ),
    SetChanged(name="a", changed=1, segments=1, images=0),
    Health(status="ok"),
    Job(
        id="j",
        paths=["/p"],
        created_s=0.0,
        counts={"added": 1},
        last=[JobOutcome(uri="file:///p/a", outcome="added", detail="")],
    ),
]
"""One of each answer."""

DEFINED: set[type[BaseModel]] = {
    kind
    for module in (document, images, jobs, labels, search, segments, sets)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, BaseModel) and kind.__module__ == module.__name__
}


def newer(value: Any, schema: dict[str, Any], defs: dict[str, Any], *, fields: bool = True) -> Any:
    """Return an answer as a newer service may send it.

    Args:
        value: JSON of the answer.
        schema: Its JSON schema.
        defs: What that refers to.
        fields: Whether objects have fields that nobody knows yet.
    """
    if "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema and value is not None:
        [schema] = [option for option in schema["anyOf"] if option.get("type") != "null"]
    if "enum" in schema:
        return "of the future"
    if "properties" in schema:
        known = {
            name: newer(each, schema["properties"][name], defs, fields=fields) for name, each in value.items()
        }
        return {**known, "new_field": {"of": ["the", "future"]}} if fields else known
    if isinstance(value, list) and "items" in schema:
        return [newer(each, schema["items"], defs, fields=fields) for each in value]
    return value


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_a_client_reads_values_and_fields_that_are_newer_than_it(answer: BaseModel) -> None:
    schema = type(answer).model_json_schema(mode="serialization")
    defs = schema.get("$defs", {})
    sent = answer.model_dump(mode="json")

    read = type(answer).model_validate_json(json.dumps(newer(sent, schema, defs)))

    assert read.model_dump(mode="json") == newer(sent, schema, defs, fields=False)


def test_every_answer_is_among_those_that_were_read() -> None:
    read = {type(answer).__name__ for answer in ANSWERS} | {
        name
        for answer in ANSWERS
        for name in type(answer).model_json_schema(mode="serialization").get("$defs", {})
    }

    answers = {kind.__name__ for kind in DEFINED if not issubclass(kind, StrictRequest)}
    assert answers - read == {"Document", "SegmentOut"}  # what others are made of
    assert read <= answers


def test_the_known_values_of_an_answer_are_in_its_schema() -> None:
    def values(kind: type[BaseModel], name: str) -> list[str]:
        found: list[str] = kind.model_json_schema(mode="serialization")["properties"][name]["enum"]
        return found

    assert values(SearchResponse, "answer") == ["found", "not_there"]
    assert values(Job, "status") == ["waiting", "running", "done", "stopped", "failed"]
    assert values(Ingested, "outcome") == [*values(JobOutcome, "outcome"), "queued"]
    for kind in DEFINED:
        if issubclass(kind, StrictRequest):
            continue
        for field in kind.model_json_schema(mode="serialization").get("properties", {}).values():
            assert all(value == value.lower() and " " not in value for value in field.get("enum", ()))


def test_whole_documents_say_their_version() -> None:
    documents = [answer for answer in ANSWERS if isinstance(answer, Document)]

    assert {type(each) for each in documents} == {
        Reembedded,
        BackedUp,
        DroppedVectors,
        Restored,
        SearchResponse,
        RefinementsOut,
        MasksOut,
        Stats,
        IngestReportOut,
        Deleted,
        Synced,
        LabelReport,
        LabelCounts,
        LabelsCleared,
        SetsOut,
        SetOut,
        SetDetails,
        SetChanged,
    }
    assert all(each.model_dump(mode="json")["schema_version"] == 1 for each in documents)


def test_points_in_time_are_there_in_both_forms() -> None:
    job = Job(id="j", paths=["/p"], created_s=1_795_458_600.9, started_s=0.0)

    assert (job.created_at, job.started_at, job.ended_at) == (
        "2026-11-23T18:30:00Z",
        "1970-01-01T00:00:00Z",
        None,
    )
    assert IMAGE.model_dump(mode="json")["captured_at"] == "2026-11-23T18:30:00Z"
    assert IMAGE.model_dump(mode="json")["captured_from"] is None
    assert Job.model_validate_json(job.model_dump_json()) == job


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e13, -1e13])
def test_a_time_that_no_calendar_has_is_left_out(seconds: float) -> None:
    assert utc_text(seconds) is None


def test_every_time_of_an_answer_in_seconds_since_1970_has_its_other_form() -> None:
    moments = {"captured_s", "created_s", "started_s", "ended_s"}
    for answer in ANSWERS:
        schema = type(answer).model_json_schema(mode="serialization")
        for one in (schema, *schema.get("$defs", {}).values()):
            names = set(one.get("properties", {}))
            assert {name.removesuffix("_s") + "_at" for name in names & moments} <= names


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-23", 1_795_392_000),
        ("2026-11-23T18:30", 1_795_458_600),
        ("2026-11-23T18:30:00Z", 1_795_458_600),
        ("2026-11-23T20:30:00.5+02:00", 1_795_458_600.5),
        ("1969-12-31T23:59:59", -1),
    ],
)
def test_a_bound_in_time_is_given_in_either_form(text: str, seconds: float) -> None:
    by_text = Filter.model_validate({"captured_from_at": text, "captured_until_s": 5})
    sent = Filter.model_validate_json(by_text.model_dump_json())

    assert by_text.captured_range_s() == sent.captured_range_s() == (seconds, 5)
    assert Filter.model_validate({"captured_until_at": text}).captured_range_s() == (None, seconds)
    assert Filter(captured_from_s=seconds).captured_range_s() == (seconds, None)


@pytest.mark.parametrize("bound", ["captured_from", "captured_until"])
def test_a_bound_in_time_is_given_once(bound: str) -> None:
    with pytest.raises(ValidationError, match=f"give {bound}_s or {bound}_at, not both") as caught:
        Filter.model_validate({f"{bound}_s": 0, f"{bound}_at": "2026-11-23"})
    assert caught.value.error_count() == 1


@pytest.mark.parametrize("given", ["yesterday", "", 1_795_458_600, "1795458600", [2026], True])
def test_a_bound_in_time_that_is_no_date_is_refused(given: object) -> None:
    with pytest.raises(ValidationError, match="must be a date such as 2026-11-23"):
        Filter.model_validate({"captured_from_at": given})


@pytest.mark.parametrize("weight", [-100, -0.5, 0.5, 100])
def test_a_segment_and_a_region_may_count_against_a_hit(weight: float) -> None:
    assert WeightedSegment(segment_id=ONE, weight=weight).weight == weight
    assert Region(image_id=ONE, weight=weight).weight == weight


@pytest.mark.parametrize("weight", [0, -0.0, 100.1, -101, float("nan"), float("inf")])
def test_a_weight_of_nothing_or_too_much_is_refused(weight: float) -> None:
    for make in (
        lambda: WeightedSegment(segment_id=ONE, weight=weight),
        lambda: Region(image_id=ONE, weight=weight),
    ):
        with pytest.raises(ValidationError) as caught:
            make()
        assert caught.value.error_count() == 1


@pytest.mark.parametrize("weight", [0, -1])
def test_a_text_that_counts_against_a_hit_is_among_the_negative_ones(weight: float) -> None:
    with pytest.raises(ValidationError, match="above 0"):
        SearchRequest.model_validate({"texts": [{"text": "cup", "weight": weight}]})
