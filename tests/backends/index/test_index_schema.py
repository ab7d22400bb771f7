"""Records survive being stored, and what is no record is named."""

import json
import math
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.backends.index.stored_samples import FINGERPRINT, make_picture

from segdex_backends.index.payloads import (
    FILTER_FIELDS,
    fingerprint_from_payload,
    fingerprint_to_payload,
    image_from_payload,
    image_to_payload,
    repeated_payload,
    segment_from_payload,
    segment_to_payload,
)
from segdex_core.errors import IndexVersionError, SegmentIndexError
from segdex_core.records import OLDEST_SCHEMA_VERSION, SCHEMA_VERSION, ImageFile, SegmentLabel

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"))
PICTURE = make_picture(0, 3)


@given(
    area=st.floats(min_value=0, max_value=1, exclude_min=True),
    object_score=st.floats(min_value=0, max_value=1),
    numbers=st.tuples(FLOATS, FLOATS, FLOATS),
    tags=st.lists(TEXTS).map(tuple),
)
def test_a_segment_survives_json(
    area: float, object_score: float, numbers: tuple[float, float, float], tags: tuple[str, ...]
) -> None:
    record = replace(
        PICTURE.segments.records[2],
        area_fraction=area,
        object_score=object_score,
        predicted_iou=numbers[0],
        stability=numbers[1],
        captured_s=numbers[2],
        tags=tags,
    )

    payload = json.loads(json.dumps(segment_to_payload(record)))

    assert segment_from_payload(str(record.segment_id), payload, "here") == record


@given(
    place=st.none() | st.tuples(FLOATS, FLOATS),
    captured_s=FLOATS,
    mtime_ns=st.integers(min_value=-(2**62), max_value=2**62),
)
def test_a_picture_survives_json(place: tuple[float, float] | None, captured_s: float, mtime_ns: int) -> None:
    files = (*PICTURE.record.files, ImageFile(uri="file:///a%FF", mtime_ns=mtime_ns))
    record = replace(PICTURE.record, place_lat_lon=place, captured_s=captured_s, files=files)

    payload = json.loads(json.dumps(image_to_payload(record)))

    assert image_from_payload(str(record.image_id), payload, "here") == record


@given(st.floats(min_value=0.01, max_value=1), st.sampled_from([-1, 1]))
def test_a_number_that_the_store_gives_back_one_unit_off_does_not_change_the_record(
    value: float, towards: int
) -> None:
    record = replace(PICTURE.segments.records[0], area_fraction=value, stability=value, captured_s=value)
    payload = segment_to_payload(record)

    worn = {
        name: math.nextafter(number, towards * math.inf) if isinstance(number, float) else number
        for name, number in payload.items()
    }

    assert worn != payload
    assert segment_from_payload(record.segment_id, worn, "here") == record


def test_what_a_segment_repeats_of_its_picture_is_payload_of_the_segment() -> None:
    changed = replace(PICTURE.record, tags=("new",), captured_s=0.1 + 0.2)
    record = PICTURE.segments.records[0]

    payload = segment_to_payload(record) | repeated_payload(changed)

    assert segment_from_payload(record.segment_id, payload, "here") == replace(
        record, tags=("new",), captured_s=0.1 + 0.2, sources=changed.sources
    )
    assert payload.keys() == segment_to_payload(record).keys()


def test_every_field_that_filters_ask_for_is_stored_under_its_name() -> None:
    plain = PICTURE.segments.records[0]
    marked = replace(plain, labels=(SegmentLabel("cat", "person:me", None, 1.0),), sets=(uuid4(),))

    assert FILTER_FIELDS.keys() <= segment_to_payload(marked).keys()
    assert FILTER_FIELDS.keys() - segment_to_payload(plain).keys() == {"labels", "sets"}


def test_labels_and_sets_survive_a_payload() -> None:
    labels = (
        SegmentLabel("\u00fc cat", "model:a/1", 1 / 3, 1_795_458_600.123456),
        SegmentLabel("cat", "person:me", None, 1.0),
    )
    record = replace(PICTURE.segments.records[0], labels=labels, sets=tuple(sorted((uuid4(), uuid4()))))
    payload = json.loads(json.dumps(segment_to_payload(record)))

    assert segment_from_payload(str(record.segment_id), payload, "here") == record


@pytest.mark.parametrize(
    ("name", "author"),
    [
        ("", "person:me"),
        ("x" * 101, "person:me"),
        ("a\nb", "person:me"),
        ("a", "me"),
        ("a", "robot:x"),
        ("a", "model:"),
    ],
)
def test_a_label_that_means_nothing_is_refused(name: str, author: str) -> None:
    with pytest.raises(ValueError, match=r"label has|author must be"):
        SegmentLabel(name, author, None, 1.0)


def test_the_fingerprint_survives_json() -> None:
    payload = json.loads(json.dumps(fingerprint_to_payload(FINGERPRINT)))

    assert fingerprint_from_payload(payload, "here") == FINGERPRINT


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_json_cannot_hold_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        segment_to_payload(replace(PICTURE.segments.records[0], predicted_iou=number))
    with pytest.raises(ValueError, match="finite"):
        image_to_payload(replace(PICTURE.record, captured_s=number))


@pytest.mark.parametrize(
    "fault",
    [
        {"image_id": "not-an-id"},
        {"area_fraction": 2, "area_fraction_text": "2"},
        {"area_fraction_text": "half"},
        {"object_score": 1.5, "object_score_text": "1.5"},
        {"object_score": None, "object_score_text": None},
        {"box_xyxy": [1, 2, 3]},
        {"rle_size_hw": [0, 0]},
        {"tags": None},
    ],
    ids=str,
)
def test_a_damaged_segment_is_named(fault: dict[str, object]) -> None:
    record = PICTURE.segments.records[0]

    with pytest.raises(SegmentIndexError, match=f"segment {record.segment_id} in here") as caught:
        segment_from_payload(record.segment_id, segment_to_payload(record) | fault, "here")

    assert "\n" not in str(caught.value)


def test_a_payload_of_something_else_is_refused() -> None:
    for payload in (None, {}, {"title": "a document"}):
        with pytest.raises(SegmentIndexError, match="cannot be read"):
            segment_from_payload(7, payload, "here")
        with pytest.raises(SegmentIndexError, match="cannot be read"):
            image_from_payload(uuid4(), payload, "here")
        with pytest.raises(SegmentIndexError, match="cannot be read"):
            fingerprint_from_payload(payload, "here")


def test_what_a_newer_segdex_wrote_is_refused_by_its_version() -> None:
    newer = {"schema_version": SCHEMA_VERSION + 1, "fields": "of the future"}

    with pytest.raises(IndexVersionError, match="upgrade segdex"):
        segment_from_payload(uuid4(), newer, "here")
    with pytest.raises(IndexVersionError, match="upgrade segdex"):
        image_from_payload(uuid4(), newer, "here")
    with pytest.raises(IndexVersionError, match="upgrade segdex"):
        fingerprint_from_payload(newer, "here")


def test_what_an_older_segdex_made_is_refused_with_the_command_that_makes_it_anew() -> None:
    older = fingerprint_to_payload(FINGERPRINT) | {"schema_version": OLDEST_SCHEMA_VERSION - 1}

    with pytest.raises(IndexVersionError, match="segdex --index NEW --profile offline ingest") as caught:
        fingerprint_from_payload(older, "here")

    assert "\n" not in str(caught.value)


def test_a_field_that_this_version_does_not_know_is_ignored() -> None:
    record = PICTURE.segments.records[0]
    unknown = {"x": 1, "label": "sign", "label_text": "stop"}

    assert segment_from_payload(record.segment_id, segment_to_payload(record) | unknown, "here") == record


def test_what_the_date_is_from_survives_json_and_is_unknown_in_older_payloads() -> None:
    record = replace(PICTURE.record, captured_from="gps")
    payload = json.loads(json.dumps(image_to_payload(record)))
    older = {name: value for name, value in payload.items() if name != "captured_from"}

    assert image_from_payload(str(record.image_id), payload, "here") == record
    assert image_from_payload(str(record.image_id), older, "here") == replace(record, captured_from=None)
    newer = payload | {"captured_from": "a source of tomorrow"}
    assert image_from_payload(str(record.image_id), newer, "here").captured_from == "a source of tomorrow"
