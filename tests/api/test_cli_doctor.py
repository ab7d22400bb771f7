"""``segdex doctor``: what it prints, its exit codes, and what it examines beside the index."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.environment import no_variables
from tests.fakes.parts import EMBEDDER, parts
from tests.needs import ROOT

from segdex.cli.main import run
from segdex.jobs.queue import Jobs
from segdex.jobs.storages import JobsUnavailableError, sqlite_storage
from segdex.usecases.doctor import examine_library
from segdex.wiring import calibration_folder
from segdex_backends.sources.files import FileSource
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import SegmentFilter
from segdex_core.settings import Settings
from segdex_core.wire.doctor import KINDS, Examined
from segdex_search.calibrate import Calibration, calibration_file, save_calibration

__all__ = ["no_variables"]

HOURS_S = 3_600.0
Doctor = Callable[..., tuple[int, Any]]


@pytest.fixture(name="index")
def _index(tmp_path: Path, no_variables: None) -> SegmentIndex:
    return parts(tmp_path / "set").open_index(Settings(), create=True)


@pytest.fixture(name="doctor")
def _doctor(
    tmp_path: Path, index: SegmentIndex, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Doctor:
    """Runs the command, and returns its exit code with its JSON, or with ``text`` its lines."""
    monkeypatch.setenv("SEGDEX_CACHE_DIR", str(tmp_path / "cache"))
    fakes = replace(parts(tmp_path / "set"), open_index=lambda *_, **__: index)

    def doctor(*arguments: str, text: bool = False) -> tuple[int, Any]:
        code = run(["doctor", *arguments, *([] if text else ["--json"])], parts=fakes)
        printed = capsys.readouterr().out
        return code, printed if text else json.loads(printed)

    return doctor


def half_copied(index: SegmentIndex) -> Path:
    """Let the segments of a picture have other tags than it has, and return its file."""
    image = next(index.scroll_images())
    for some in index.scroll_vectors(SegmentFilter(image_ids=(image.image_id,))):
        records = [replace(record, tags=("old",)) for record in some.records]
        index.upsert_segments(replace(some, records=records))
    return Path(image.files[0].uri.removeprefix("file://"))


def test_the_exit_code_says_whether_something_is_left(doctor: Doctor, index: SegmentIndex) -> None:
    assert doctor(text=True)[1].strip().endswith("examined: nothing is damaged")
    assert doctor()[0] == 0
    path = half_copied(index)

    code, found = doctor()
    assert code == 1
    [finding] = found["findings"]
    assert finding["kind"] == "copied_fields"
    assert finding["path"] == str(path)
    assert finding["fixable"]
    assert not finding["fixed"]
    code, mended = doctor("--fix")
    assert code == 0
    assert [one["fixed"] for one in mended["findings"]] == [True]
    assert doctor() == (0, {**doctor()[1], "findings": []})


def test_a_report_fits_80_columns_and_shows_the_first_of_a_kind(doctor: Doctor, tmp_path: Path) -> None:
    for file in (tmp_path / "set" / "images").iterdir():
        file.unlink()

    code, lines = doctor(text=True)

    assert code == 1
    assert "missing file: 2" in lines
    assert "mend: segdex sync" in lines
    assert all(len(line) <= 80 or str(tmp_path) in line for line in lines.splitlines())


def test_an_index_that_does_not_exist_is_exit_code_3(tmp_path: Path, no_variables: None) -> None:
    assert run(["doctor", "--index", f"edge:{tmp_path / 'none'}"]) == 3
    assert run(["doctor", "--index", "ftp://nonsense"]) == 2


def test_a_calibration_is_dropped_only_where_it_is_useless(doctor: Doctor, tmp_path: Path) -> None:
    folder = calibration_folder(Settings(cache_dir=tmp_path / "cache"))
    file = save_calibration(folder, EMBEDDER.fingerprint, Calibration(0.1, 0.2, 0.3))
    assert doctor()[0] == 0

    content = json.loads(file.read_text())
    file.write_text(json.dumps({key: content[key] for key in content if key != "label_threshold"}))
    code, found = doctor("--fix")
    assert (code, [(one["kind"], one["fixed"]) for one in found["findings"]]) == (1, [("calibration", False)])
    for damaged in (json.dumps({**content, "embedder": "another"}), "{", ""):
        file.write_text(damaged)
        assert doctor()[0] == 1
        assert doctor("--fix")[0] == 0
        assert not file.exists()
    assert calibration_file(folder, EMBEDDER.fingerprint) == file


def examined(index: SegmentIndex, tmp_path: Path, *, age_s: float = 0.0, **others: Any) -> Examined:
    storage = sqlite_storage(tmp_path / "jobs.sqlite", index_key="k")
    return examine_library(
        index,
        source=FileSource(),
        uploads=tmp_path / "uploads",
        jobs=others.get("jobs", lambda: Jobs(storage)),
        calibrations=None,
        writing=nullcontext(),
        fix=others.get("fix", False),
        now_s=tmp_path.stat().st_mtime + age_s,
    )


def test_uploads_that_nobody_owns_are_named_after_an_hour(index: SegmentIndex, tmp_path: Path) -> None:
    [image, *_] = index.scroll_images()
    files = {
        "owned": tmp_path / "uploads" / image.sha256 / "a.png",
        "foreign": tmp_path / "uploads" / ("1" * 64) / "b.png",
        "part": tmp_path / "uploads" / ("1" * 64) / "c.part",
        "empty": tmp_path / "uploads" / ("2" * 64) / "d.png",
    }
    for name, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"" if name == "empty" else b"x")
    assert examined(index, tmp_path).findings == []

    found = examined(index, tmp_path, age_s=2 * HOURS_S, fix=True).findings

    assert [(one.kind, one.what, one.fixed) for one in found] == [
        ("upload_without_picture", str(files["foreign"]), False),
        ("upload_part", str(files["part"]), True),
        ("upload_part", str(files["empty"]), True),
    ]
    assert [file.exists() for file in files.values()] == [True, True, False, False]


def test_a_job_that_nobody_carries_out_is_named_after_an_hour(index: SegmentIndex, tmp_path: Path) -> None:
    jobs = Jobs(sqlite_storage(tmp_path / "jobs.sqlite", index_key="k"))
    waiting = jobs.add(["/pictures"])
    assert examined(index, tmp_path).findings == []

    [found] = examined(index, tmp_path, age_s=2 * HOURS_S).findings

    assert (found.kind, found.what) == ("stuck_job", waiting.id)
    jobs.close()


def test_a_queue_that_does_not_answer_is_a_finding(index: SegmentIndex, tmp_path: Path) -> None:
    def away() -> Jobs:
        raise JobsUnavailableError("away")

    [found] = examined(index, tmp_path, jobs=away).findings

    assert (found.kind, found.detail) == ("stuck_job", "away")


def test_the_page_explains_every_kind() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text()

    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []
