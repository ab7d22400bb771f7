"""The report of an ingest: counts, exit codes and JSON."""

import json

import pytest

from segdex_ingest.report import FAILED, FileOutcome, IngestReport, Outcome


def report_of(*outcomes: Outcome, interrupted: bool = False, skipped: bool = False) -> IngestReport:
    files = [
        FileOutcome(f"file:///p/{i}.jpg", outcome, segments=i, elapsed_s=0.12345)
        for i, outcome in enumerate(outcomes)
    ]
    folders = [("/p/secret", "permission denied")] if skipped else []
    return IngestReport(files=files, skipped_folders=folders, elapsed_s=1.23456, interrupted=interrupted)


def test_every_outcome_is_counted_also_those_that_did_not_happen() -> None:
    counts = report_of(Outcome.ADDED, Outcome.ADDED, Outcome.TOO_LARGE).counts

    assert set(counts) == set(Outcome)
    assert {outcome: count for outcome, count in counts.items() if count} == {
        Outcome.ADDED: 2,
        Outcome.TOO_LARGE: 1,
    }


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_exit_code_is_one_when_a_file_was_not_usable(outcome: Outcome) -> None:
    refused = {Outcome.UNREADABLE, Outcome.TOO_LARGE, Outcome.NOT_AN_IMAGE}

    assert report_of(Outcome.ADDED, outcome).exit_code == (1 if outcome in refused else 0)
    assert refused == FAILED


def test_a_folder_that_was_skipped_makes_the_exit_code_one() -> None:
    assert report_of(Outcome.ADDED, skipped=True).exit_code == 1


@pytest.mark.parametrize("outcome", [Outcome.ADDED, Outcome.UNREADABLE])
def test_a_stopped_run_exits_like_a_program_stopped_by_ctrl_c(outcome: Outcome) -> None:
    assert report_of(outcome, interrupted=True).exit_code == 130


def test_nothing_to_do_is_no_failure() -> None:
    assert report_of().exit_code == 0
    assert report_of().segments == 0


def test_the_json_says_all_that_the_report_says() -> None:
    report = report_of(Outcome.ADDED, Outcome.NO_SEGMENTS, skipped=True, interrupted=True)

    found = json.loads(json.dumps(report.to_json()))

    assert found == {
        "counts": {**{str(outcome): 0 for outcome in Outcome}, "added": 1, "no segments": 1},
        "segments": 1,
        "elapsed_s": 1.235,
        "interrupted": True,
        "skipped_folders": [{"path": "/p/secret", "reason": "permission denied"}],
        "files": [
            {
                "uri": f"file:///p/{i}.jpg",
                "path": f"/p/{i}.jpg",
                "outcome": outcome,
                "detail": "",
                "segments": i,
                "elapsed_s": 0.123,
            }
            for i, outcome in enumerate(["added", "no segments"])
        ],
    }


def test_names_that_are_not_text_come_through_json_as_utf_8() -> None:
    report = IngestReport(
        files=[FileOutcome("file:///p/%FF%0A.jpg", Outcome.ADDED)], skipped_folders=[], elapsed_s=0
    )

    text = json.dumps(report.to_json(), ensure_ascii=False)

    assert json.loads(text.encode("utf-8"))["files"][0]["uri"] == "file:///p/%FF%0A.jpg"
