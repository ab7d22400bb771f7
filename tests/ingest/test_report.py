"""The report of an ingest: counts, failures and JSON."""

import json
from uuid import UUID

import pytest

from segdex_ingest.report import FAILED, FileOutcome, IngestReport, Outcome

PICTURE = UUID("6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11")


def report_of(*outcomes: Outcome, interrupted: bool = False, skipped: bool = False) -> IngestReport:
    files = [
        FileOutcome(f"file:///p/{i}.jpg", outcome, segments=i, image_id=PICTURE)
        for i, outcome in enumerate(outcomes)
    ]
    folders = [("file:///p/secret", "permission denied")] if skipped else []
    return IngestReport(files=files, skipped_folders=folders, elapsed_s=1.23456, interrupted=interrupted)


def test_every_outcome_is_counted_also_those_that_did_not_happen() -> None:
    counts = report_of(Outcome.ADDED, Outcome.ADDED, Outcome.TOO_LARGE).counts

    assert set(counts) == set(Outcome)
    assert {outcome: count for outcome, count in counts.items() if count} == {
        Outcome.ADDED: 2,
        Outcome.TOO_LARGE: 1,
    }


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_file_that_was_not_usable_is_a_failure(outcome: Outcome) -> None:
    refused = {
        Outcome.UNREADABLE,
        Outcome.TOO_LARGE,
        Outcome.FAILED,
        Outcome.CRASHED,
    }

    assert report_of(Outcome.ADDED, outcome).to_document().has_failures == (outcome in refused)
    assert refused == FAILED


@pytest.mark.parametrize("outcome", list(Outcome))
def test_pictures_that_were_segmented_are_counted(outcome: Outcome) -> None:
    segmented = {Outcome.ADDED, Outcome.REPLACED, Outcome.NO_SEGMENTS}

    assert report_of(Outcome.ADDED, outcome).to_document().analysed == 1 + (outcome in segmented)


def test_a_folder_that_was_skipped_is_a_failure() -> None:
    assert report_of(Outcome.ADDED, skipped=True).to_document().has_failures


def test_nothing_to_do_is_no_failure() -> None:
    assert not report_of().to_document().has_failures
    assert report_of().segments == 0


def test_the_json_says_all_that_the_report_says() -> None:
    report = report_of(Outcome.ADDED, Outcome.NO_SEGMENTS, skipped=True, interrupted=True)

    found = report.to_document().model_dump(mode="json")

    assert found == {
        "schema_version": 1,
        "outcomes": {**{str(outcome): 0 for outcome in Outcome}, "added": 1, "no_segments": 1},
        "kinds": {},
        "segments": 1,
        "elapsed_s": 1.235,
        "interrupted": True,
        "skipped_folders": [{"path": "/p/secret", "uri": "file:///p/secret", "reason": "permission denied"}],
        "notes": [],
        "files": [
            {
                "uri": f"file:///p/{i}.jpg",
                "path": f"/p/{i}.jpg",
                "outcome": outcome,
                "detail": "",
                "image_id": str(PICTURE),
                "segments": i,
                "kind": None,
            }
            for i, outcome in enumerate(["added", "no_segments"])
        ],
    }


def test_files_beside_pictures_are_counted_by_kind_and_unread_formats_are_named() -> None:
    kinds = ["json", "mp4", "json", "heic", "nef", "xmp"]
    files = [FileOutcome(f"file:///p/{i}", Outcome.NOT_AN_IMAGE, kind=kind) for i, kind in enumerate(kinds)]
    broken = FileOutcome("file:///p/x.json", Outcome.UNREADABLE, kind="json")

    report = IngestReport([*files, broken], skipped_folders=[], elapsed_s=0, notes=["a"]).to_document()

    assert list(report.kinds.items()) == [("json", 2), ("heic", 1), ("mp4", 1), ("nef", 1), ("xmp", 1)]
    assert sum(report.kinds.values()) == report.outcomes["not_an_image"]
    unread = "3 files left, in formats of pictures and videos that segdex does not read yet"
    assert report.notes == ["a", f"{unread}: 1 heic, 1 mp4, 1 nef"]


def test_names_that_are_not_text_come_through_json_as_utf_8() -> None:
    report = IngestReport(
        files=[FileOutcome("file:///p/%FF%0A.jpg", Outcome.ADDED)], skipped_folders=[], elapsed_s=0
    )

    text = json.dumps(report.to_document().model_dump(mode="json"), ensure_ascii=False)

    assert json.loads(text.encode("utf-8"))["files"][0]["uri"] == "file:///p/%FF%0A.jpg"
