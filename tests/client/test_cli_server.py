"""``segdex --server URL``: the same commands, answered by a service."""

import json
import re
import resource
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.client.conftest import Serve, Service
from tests.fakes.dataset import png
from tests.fakes.parts import parts

from segdex.cli.main import run
from segdex.http.keys import make_key
from segdex.parts import Parts
from segdex.wiring import REAL
from segdex_backends.sources.files import FileSource
from segdex_core.ports.index import SegmentIndex
from segdex_core.wire.jobs import Job
from segdex_core.wire.search import SearchResponse

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True, slots=True)
class Here:
    """Where a service listens, and what lets the commands use its index and models in this process."""

    url: str
    parts: Parts


@pytest.fixture(name="here")
def _here(service: Service, tmp_path: Path) -> Here:
    index: SegmentIndex = service.loaded.library.index
    return Here(service.url, replace(parts(tmp_path / "set"), open_index=lambda _, *, create: index))


def output(capsys: Capture, *arguments: str, code: int = 0, here: Here | None = None) -> str:
    assert run(arguments, parts=REAL if here is None else here.parts) == code, capsys.readouterr().err
    return capsys.readouterr().out


def answer(capsys: Capture, *arguments: str, code: int = 0, here: Here | None = None) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(output(capsys, *arguments, "--json", code=code, here=here))
    return value


def answers(capsys: Capture, *arguments: str) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = json.loads(output(capsys, *arguments, "--json"))
    return values


def fails(capsys: Capture, *arguments: str, code: int, saying: tuple[str, ...]) -> None:
    assert run(arguments) == code
    captured = capsys.readouterr()
    [line] = captured.err.strip().splitlines()
    assert line.startswith("segdex: ")
    for part in saying:
        assert part in line, line


def without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: without(each, names) for name, each in value.items() if name not in names}
    return [without(each, names) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "question",
    [
        ("red",),
        ("green", "--also", "red", "--weight", "9", "--weight", "0.5", "--limit", "1", "--per-image", "1"),
        ("red", "green", "--also", "green", "--not", "red", "--negative-weight", "3", "--no-nms", "--exact"),
        ("blue", "--view", "crop=0.7", "--min-score", "0.9"),
        ("blue", "--min-area", "0.01", "--max-area", "0.5", "--since", "2001-01-01", "--until", "2001-01-02"),
        ("green", "--source", "set"),
        ("blue", "--level", "whole", "--min-score", "auto"),
        ("blue", "--level", "part"),
        ("green", "--tag", "nowhere"),
        ("--image", "green.png", "--weight", "2", "--limit", "1"),
        ("blue", "--image", "green.png", "--weight", "1", "--weight", "0.2"),
        ("blue", "--image", "green.png", "--weight", "1", "--weight", "-2"),
        ("blue", "--also", "red", "--weight", "1", "--weight", "-2"),
        ("--image", "green.png", "--image", "red.png", "--weight", "1", "--weight", "0.3"),
        ("--image", "green.png", "--image", "red.png", "--combine", "best", "--diversity", "1"),
        ("blue", "--unlike", "green.png", "--collapse-duplicates"),
        ("green", "--refine", "2"),
    ],
    ids=" ".join,
)
def test_a_search_answers_the_same_here_and_there(
    here: Here, capsys: Capture, question: tuple[str, ...]
) -> None:
    for colour in ("green", "red"):
        Path(f"{colour}.png").write_bytes(png(colour))

    local = answer(capsys, "search", *question, here=here)
    remote = answer(capsys, "search", *question, "--server", here.url)
    lines = [output(capsys, *place, "search", *question, here=here) for place in ((), ("--server", here.url))]

    refined = {"refinements"} if "--refine" in question else set()
    assert set(local) == set(remote) == {*SearchResponse.model_fields} | refined
    for name in ("answer", "embedder", "segmenter", "profile", "hits", "next_cursor"):
        assert local[name] == remote[name]
    if refined:
        assert without(local["refinements"], {"timings_ms"}) == without(remote["refinements"], {"timings_ms"})
        assert local["refinements"]
    rows = [[re.sub(r"\d+ ms", "ms", line) for line in one.splitlines()] for one in lines]
    assert rows[0] == rows[1]


def test_words_without_quotes_are_one_question(here: Here, capsys: Capture) -> None:
    plain = answer(capsys, "search", "red", "green", "--exact", here=here)

    assert plain["hits"] == answer(capsys, "search", "red green", "--exact", here=here)["hits"]
    assert plain["hits"] != answer(capsys, "search", "red", "--exact", here=here)["hits"]


def test_a_segment_is_something_to_look_for_and_to_show(here: Here, capsys: Capture) -> None:
    found = answer(capsys, "search", "green", "--server", here.url)["hits"][0]["segments"][0]["id"]

    again = answer(capsys, "search", "--segment", found, "--server", here.url)
    local = answer(capsys, "show", found, "--out", "here", here=here)
    remote = answer(capsys, "show", found, "--out", "there", "--server", here.url)
    lines = [
        output(capsys, "show", found, *place, here=here).splitlines()[:3]
        for place in ((), ("--server", here.url))
    ]

    assert again["hits"][0]["segments"][0]["id"] == found
    assert set(local) == {"segment", "image", "files", "file_uris"}
    assert local["segment"]["id"] == found
    assert local["segment"]["image_id"] == local["image"]["id"]
    assert without(local, {"files", "file_uris"}) == without(remote, {"files", "file_uris"})
    for name, path in local["files"].items():
        assert Path(path).read_bytes() == Path(remote["files"][name]).read_bytes()
    assert lines[0] == lines[1]


def test_pictures_that_do_not_show_it_are_left_out(service: Service, capsys: Capture) -> None:
    text = output(capsys, "--server", service.url, "search", "orange", "--min-score", "auto")

    assert text.startswith("not there")
    assert (
        answer(capsys, "--server", service.url, "search", "red", "--min-score", "auto")["answer"] == "found"
    )


def test_weaker_matches_come_last_under_a_heading(service: Service, capsys: Capture) -> None:
    place = ("--server", service.url)
    found = output(capsys, *place, "search", "red")
    absent = output(capsys, *place, "search", "orange")
    hits = answer(capsys, *place, "search", "red")["hits"]

    assert [hit["is_match"] for hit in hits] == [True, False]
    before, weaker = found.split("weaker matches")
    assert "a.png" in before
    assert "b.png" not in before
    assert "b.png" in weaker
    assert found.splitlines()[-1].startswith("1 picture; scored by colours")
    assert absent.startswith("not there")
    assert absent.count(".png") == 2


def test_hits_are_refined_and_saved_as_a_sheet(service: Service, capsys: Capture) -> None:
    place = ("--server", service.url)
    text = output(capsys, *place, "search", "red", "--refine", "--save", "sheets/red.png", "--limit", "1")
    refined = answer(capsys, *place, "search", "red", "--refine", "1")["refinements"]

    assert "contact sheet: sheets/red.png" in text
    assert text.count("refined  ") >= 1
    [one] = refined
    assert one["answer"] == "refined"
    with Image.open("sheets/red.png") as sheet:
        assert sheet.format == "PNG"
    for path in Path("set").rglob("*.png"):
        path.unlink()
    assert "sheets/gone.png" in output(capsys, *place, "search", "red", "--save", "sheets/gone.png")
    assert Path("sheets/gone.png").read_bytes() != Path("sheets/red.png").read_bytes()


def test_stats_are_the_same_here_and_there(here: Here, capsys: Capture) -> None:
    text = output(capsys, "stats", "--server", here.url)
    figures = answer(capsys, "stats", "--server", here.url)
    local = answer(capsys, "stats", here=here)

    assert figures == local
    assert f"index                   {here.url}" in text
    assert "None" not in text
    assert (figures["images"], figures["profile"], figures["dimensions"]) == (2, "offline", 16)


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        (("stats",), "stats"),
        (("label", "--list"), "labels"),
        (("set", "list"), "sets"),
        (("concept", "list"), "concepts"),
        (("jobs", "list"), "jobs"),
    ],
)
def test_the_json_of_a_verb_is_the_answer_of_its_route(
    here: Here, capsys: Capture, verb: tuple[str, ...], path: str
) -> None:
    answered = httpx.get(f"{here.url}/v1/{path}", trust_env=False).json()

    assert json.loads(output(capsys, *verb, "--json", "--server", here.url)) == answered


def test_an_object_is_cut_out_the_same_here_and_there(here: Here, capsys: Capture) -> None:
    Path("p.png").write_bytes(png("red"))
    for prompt in (
        ("--point", "40,40", "--not-point", "5,5"),
        ("--box", "15,15,85,75", "--masks", "3"),
        ("--point", "40,40", "--mask", "here/p-mask-1.png"),
    ):
        local = answer(capsys, "segment", "p.png", *prompt, "--out", "here", here=here)
        remote = answer(capsys, "segment", "p.png", *prompt, "--out", "there", "--server", here.url)

        assert local["masks"] == remote["masks"]
        for files, others in zip(local["files"], remote["files"], strict=True):
            assert Path(files["mask"]).read_bytes() == Path(others["mask"]).read_bytes()
    [mask] = answer(capsys, "segment", "p.png", "--text", "red", "--server", here.url)["masks"]
    assert mask["area_px"] > 0


def test_files_are_sent_and_each_ends_in_an_outcome(
    service: Service, capsys: Capture, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "orange.png").write_bytes(png("orange"))
    (folder / "copy.png").write_bytes(png("orange"))
    place = ("--server", service.url)

    good = answer(capsys, *place, "ingest", "pictures", "--tag", "new")
    (folder / "broken.png").write_bytes(png("pink")[:150])
    (folder / "note.txt").write_text("no picture")
    mixed = answer(capsys, *place, "ingest", "pictures", code=1)
    text = output(capsys, *place, "ingest", "pictures", code=1)
    found = answer(capsys, *place, "search", "orange", "--tag", "new")["hits"]

    assert [file["outcome"] for file in good["files"]] == ["added", "unchanged"]
    assert good["segments"] == good["files"][0]["segments"] > 0
    counts = {name: count for name, count in mixed["outcomes"].items() if count}
    assert counts == {"unreadable": 1, "unchanged": 2, "not_an_image": 1}
    [broken, *_] = mixed["files"]
    assert broken["detail"].startswith(str(folder / "broken.png"))
    assert mixed["kinds"] == {"txt": 1}
    assert "not pictures: 1 txt" in text
    assert "note.txt" not in text
    assert len(found) == 1

    deleted = answer(capsys, *place, "delete", "pictures/copy.png")
    assert deleted == {
        "schema_version": 1,
        "images": [found[0]["image"]["id"]],
        "segments": good["segments"],
        "places": 1,
        "kept": [],
    }
    fails(capsys, *place, "delete", found[0]["image"]["id"], code=2, saying=("names no picture", service.url))
    fails(capsys, *place, "delete", "pictures", "gone.png", code=2, saying=("names no picture",))


def test_videos_are_neither_read_nor_sent_and_are_opened_once(
    service: Service, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGDEX_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "orange.png").write_bytes(png("orange"))
    (folder / "empty.jpg").write_bytes(b"")
    with (folder / "long.mov").open("wb") as video:
        video.write(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
        video.truncate(3_000_000_000)  # it takes no room; to hash it takes seconds, and memory
    opened: list[str] = []
    read = FileSource.read

    def counted(source: FileSource, uri: str, *, max_bytes: int) -> bytes:
        opened.append(uri.rsplit("/", 1)[-1])
        return read(source, uri, max_bytes=max_bytes)

    monkeypatch.setattr(FileSource, "read", counted)
    place = ("--server", service.url)

    first = answer(capsys, *place, "ingest", "pictures", code=1)
    second = answer(capsys, *place, "ingest", "pictures", code=1)
    named = answer(capsys, *place, "ingest", "pictures/long.mov", code=1)

    assert first["kinds"] == second["kinds"] == {"mov": 1}
    assert first["outcomes"]["unreadable"] == second["outcomes"]["unreadable"] == 1
    assert [opened.count(name) for name in ("long.mov", "empty.jpg")] == [2, 2]
    assert (named["outcomes"]["unreadable"], named["files"][0]["kind"]) == (1, "mov")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert answer(capsys, *place, "delete", "pictures")["places"] == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_what_is_known_is_not_sent_again_unless_its_tags_are_new(service: Service, capsys: Capture) -> None:
    Path("orange.png").write_bytes(png("orange"))
    place = ("--server", service.url)
    outcomes = [
        answer(capsys, *place, "ingest", "orange.png", *tags)["files"][0]["outcome"]
        for tags in ((), (), ("--tag", "new"))
    ]
    image = answer(capsys, *place, "search", "orange", "--limit", "1")["hits"][0]

    assert outcomes == ["added", "unchanged", "unchanged"]
    assert image["image"]["tags"] == ["new"]
    limited = answer(capsys, *place, "ingest", "orange.png", "--limit", "1")
    assert limited["outcomes"]["unchanged"] == 1


def test_a_service_without_a_folder_for_uploads_is_one_error_and_not_one_a_file(
    serve: Serve, capsys: Capture
) -> None:
    url = serve(uploads=None).url
    Path("a.png").write_bytes(png("orange"))

    code = run(["--server", url, "ingest", "a.png"])

    assert code == 2
    assert "SEGDEX_UPLOADS" in capsys.readouterr().err.splitlines()[-1]


def test_jobs_are_added_watched_listed_and_stopped(serve: Serve, capsys: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "new.png").write_bytes(png("pink"))
    place = ("--server", serve(job_roots=(folder,)).url)

    assert output(capsys, *place, "jobs", "list") == "no jobs\n"
    job = answer(capsys, *place, "jobs", "add", str(folder), "--tag", "new")
    watched = output(capsys, *place, "jobs", "watch", job["id"])
    listed = output(capsys, *place, "jobs", "list")
    (folder / "bad.png").write_bytes(b"no picture")
    failed = output(capsys, *place, "jobs", "add", str(folder), "--watch", code=1)
    stopped = answer(capsys, *place, "jobs", "stop", job["id"])
    states = output(capsys, *place, "jobs", "watch", job["id"], "--json-lines")
    records = [*map(json.loads, states.splitlines()), stopped, job, *answers(capsys, *place, "jobs", "list")]

    for record in records:
        assert Job.model_validate(record).model_dump(mode="json") == record
    assert watched == f"job {job['id']}  done  1 added\n"
    assert [line.split()[:4] for line in listed.splitlines()][1] == [job["id"], "done", "1", "of"]
    assert str(folder) in listed
    assert "unreadable" in failed
    assert stopped["status"] == "done"
    fails(capsys, *place, "jobs", "stop", "nothing", code=2, saying=("there is no job",))
    fails(capsys, *place, "jobs", "add", "/etc", code=2, saying=("allowed folders",))
    fails(capsys, "jobs", "list", code=2, saying=("--server", "SEGDEX_SERVER"))


def test_keys_come_from_the_environment_and_are_never_shown(
    serve: Serve, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, kept = make_key("r", "read")
    url = serve((kept,)).url
    monkeypatch.setenv("SEGDEX_SERVER", url)
    fails(capsys, "stats", code=2, saying=("401", "key"))
    monkeypatch.setenv("SEGDEX_SERVER_KEY", "sk-wrong")
    fails(capsys, "stats", code=2, saying=("401",))
    monkeypatch.setenv("SEGDEX_SERVER_KEY", key)
    Path("a.png").write_bytes(png())

    assert answer(capsys, "stats")["images"] == 2
    assert run(["ingest", "a.png"]) == 2
    err = capsys.readouterr().err
    assert "needs write" in err
    assert key not in err


@pytest.mark.parametrize(
    ("arguments", "code", "saying"),
    [
        (("stats",), 3, ("no service answers at http://127.0.0.1:9",)),
        (("concept", "list"), 3, ("no service answers at http://127.0.0.1:9",)),
        (("search", "cat", "--index", "edge:a"), 2, ("--index", "--server", "together")),
        (("search", "cat", "--profile", "offline"), 2, ("--profile", "--server")),
        (("--device", "cpu", "search", "cat", "--embedder", "x"), 2, ("--device", "--embedder")),
        (("search", "cat", "--explain", "a.png"), 2, ("--explain", "--server")),
        (("search", "cat", "--limit", "0"), 2, ("--limit must be between 1 and 1,000, but got 0",)),
        (("search", "cat", "--level", "half"), 2, ("--level", "half")),
        (("search", "cat", "--min-area", "2"), 2, ("--min-area must be between 0 and 1, but got 2",)),
        (("search", " "), 2, ("empty",)),
        (("search",), 2, ("a text, a picture or a segment",)),
        (("search", *("--image", "a.png") * 5), 2, ("--image", "4 pictures at most", "got 5")),
        (("search", "cat", *("--tag", "t") * 101), 2, ("--tag", "100", "101")),
        (("ingest", ".", "--limit", "0"), 2, ("--limit must be 1 or more, but got 0",)),
        (("ingest", ".", "--tag", " "), 2, ("--tag",)),
        (("segment", "a.png"), 2, ("--point", "--box", "--text")),
        (("ingest", ".", "--quality", "best", "--dry-run"), 2, ("--quality", "--dry-run")),
        (("ingest", "none"), 2, ("none",)),
        (("segment", "a.png", "--refiner", "x"), 2, ("--refiner",)),
        (("segment", "a.png", "--point", "1,1", "--masks", "2"), 2, ("--masks", "1 or 3")),
        (("eval", "search", "data"), 2, ("`eval`", "leave --server out", "--index")),
        (("demo",), 2, ("`demo`", "leave --server out")),
        (("sync",), 2, ("`sync`",)),
        (("models", "list"), 2, ("`models`",)),
        (("serve",), 2, ("`serve`",)),
        (("worker",), 2, ("`worker`",)),
        (("keys", "a"), 2, ("`keys`",)),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else None,
)
def test_what_cannot_be_asked_of_a_service_is_one_line(
    capsys: Capture, arguments: tuple[str, ...], code: int, saying: tuple[str, ...]
) -> None:
    Path("a.png").write_bytes(png())

    fails(capsys, "--server", "http://127.0.0.1:9", *arguments, code=code, saying=saying)


def test_a_verb_of_this_machine_says_so_where_the_option_follows_it(capsys: Capture) -> None:
    for verb in (("sync",), ("models", "list"), ("eval", "search", "data"), ("serve",)):
        fails(
            capsys,
            *verb,
            "--server",
            "http://127.0.0.1:9",
            code=2,
            saying=(f"`{' '.join(verb[:2])}`", "leave --server out"),
        )


def test_an_index_that_is_named_wins_over_the_variable(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGDEX_SERVER", "http://127.0.0.1:9")

    fails(capsys, "stats", "--index", "edge:none", code=3, saying=("edge:none",))
    fails(capsys, "sync", code=3, saying=("edge:segdex-index",))
    monkeypatch.setenv("SEGDEX_INDEX", "edge:other")
    fails(capsys, "stats", code=2, saying=("SEGDEX_INDEX", "SEGDEX_SERVER"))
    fails(capsys, "stats", "--server", "http://127.0.0.1:9", code=3, saying=("no service answers",))
    monkeypatch.setenv("SEGDEX_SERVER", "nonsense")
    monkeypatch.delenv("SEGDEX_INDEX")
    fails(capsys, "stats", code=2, saying=("http://HOST:PORT",))
