"""No command fails at what it writes: any name, any encoding, a reader that has gone, a full disk."""

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.client.odd_names import (
    NAMES,
    TEXTS,
    WITHOUT_JSON,
    Place,
    arguments_of,
    leaves,
    make_pictures,
)
from tests.conftest import Tried
from tests.fakes.dataset import write_colour_set
from tests.fakes.parts import PICTURES, parts
from tests.loopback import serving

from segdex.cli.main import run
from segdex.parts import Parts
from segdex_backends.index.memory import MemoryIndex
from segdex_core.ports.index import SegmentIndex
from segdex_core.settings import Settings

ENCODINGS = ("utf-8", "ascii", "latin-1")
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
COMMANDS = tuple(leaves())


class Desk:
    """Commands over fakes, whose output goes into strict streams of an encoding."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder, self.server = folder, server
        make_pictures(folder / "pictures")
        write_colour_set(folder / "set", PICTURES)
        self.indexes: dict[str | None, SegmentIndex] = {}

        def open_index(settings: Settings, *, create: bool) -> SegmentIndex:
            return self.indexes.setdefault(settings.index, MemoryIndex())

        self.parts: Parts = replace(parts(folder / "fakes"), open_index=open_index)

    def run(self, arguments: list[str], encoding: str = "utf-8") -> tuple[int, str, str]:
        """Return the exit code, and what is on standard output and error."""
        raw = io.BytesIO(), io.BytesIO()
        streams = [io.TextIOWrapper(one, encoding=encoding, errors="strict") for one in raw]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SEGDEX_INDEX", f"edge:{self.folder / 'index'}")
            patch.setenv("SEGDEX_CACHE_DIR", str(self.folder / "cache"))
            patch.chdir(self.folder)
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            code = run(arguments, parts=self.parts)
            for stream in streams:
                stream.flush()
        out, err = (one.getvalue().decode(encoding) for one in raw)
        return code, out, err

    def ask(self, *arguments: str) -> Any:
        code, out, err = self.run([*arguments, "--json"])
        assert code == 0, err
        return json.loads(out)

    def place(self, text: str) -> Place:
        found = json.loads(self.run(["search", "red", "--json"])[1])["hits"][0]
        job = json.loads(self.run(["jobs", "list", "--server", self.server, "--json"])[1])
        return Place(
            self.folder,
            text=text,
            server=self.server,
            segment=found["segments"][0]["id"],
            image=found["image"]["id"],
            job=job[0]["id"] if job else "none",
        )


@pytest.fixture(name="desk", scope="module")
def _desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("odd")
    with serving(folder / "service", job_roots=(folder,)) as service:
        desk = Desk(folder, service.url)
        code, _, err = desk.run(["ingest", str(folder / "pictures")])
        assert code == 0, err
        yield desk


def runs_of(desk: Desk, command: str, text: str, *, is_thorough: bool) -> list[list[str]]:
    """Return the ways to run a command, half of them with ``--json``, or all with and without it."""
    runs = [[*command.split(), *given] for given in arguments_of(command, desk.place(text))]
    if command not in WITHOUT_JSON:
        others = [[*one, "--json"] for one in runs]
        runs = [*runs, *others] if is_thorough else [*runs[::2], *others[1::2]]
    return [*runs, [*command.split(), "--help"], [*command.split(), f"--no-such-{text}"]]


def problem_of(code: int, out: str, err: str, documents: list[str]) -> str:
    """Return what is wrong with what a command wrote; nothing if all is well."""
    if code not in (0, 1, 2, 3) or "Traceback" in err or "bug of segdex" in err:
        return "fails"
    if UNSAFE.search(out + err):
        return "drives the terminal"
    if code in (0, 1):
        try:
            for document in documents:
                json.loads(document.encode())  # a lone surrogate is no UTF-8
        except ValueError:
            return "is no JSON"
    return ""


def problems(
    desk: Desk, command: str, text: str, encoding: str, *, is_thorough: bool = False
) -> Iterator[str]:
    """Run a command in all ways with a text; yield what is wrong, or "" for each run."""
    for arguments in runs_of(desk, command, text, is_thorough=is_thorough):
        code, out, err = desk.run(arguments, encoding)
        documents = [out] * bool("--json" in arguments and out)
        documents += out.splitlines() if "--json-lines" in arguments else []
        problem = problem_of(code, out, err, documents)
        yield problem and f"{problem} ({code}): {arguments}\n{out[-300:]!r}\n{err[-300:]!r}"


def test_each_command_has_its_odd_arguments() -> None:
    place = Place(Path(), text="", server="", segment="", image="", job="")

    assert [arguments_of(command, place) for command in COMMANDS]


def test_no_command_fails_at_a_name_or_an_encoding(desk: Desk) -> None:
    found = [
        problem
        for number, command in enumerate(COMMANDS)
        for problem in problems(desk, command, TEXTS[5 * number % len(TEXTS)], ENCODINGS[number % 3])
    ]

    assert "\n\n".join(filter(None, found)) == ""


@pytest.mark.slow
@pytest.mark.promise(
    "Search", "No command fails at a name of a file, a text, or the encoding of a terminal or pipe."
)
def test_no_command_fails_at_any_name_in_any_encoding(desk: Desk, tried: Tried) -> None:
    found = [
        problem
        for at, text in enumerate(TEXTS)
        for number, command in enumerate(COMMANDS)
        if at == 0 or not command.startswith(("calibrate", "eval"))  # they take longest
        for problem in problems(desk, command, text, ENCODINGS[(at + number) % 3], is_thorough=at % 3 == 0)
    ]

    tried(len(found), "commands with odd names and encodings", lost=sum(map(bool, found)))
    assert "\n\n".join(filter(None, found)) == ""


def test_a_name_that_is_not_utf8_works_and_is_in_json_without_loss(desk: Desk) -> None:
    folder, name = desk.folder, os.fsdecode(NAMES[0])
    picture, out = str(folder / "pictures" / name), folder / os.fsdecode(b"out\xe9")
    sheet, backup = str(folder / os.fsdecode(b"sheet\xe9.png")), str(folder / os.fsdecode(b"backup\xe9"))
    service = ["--server", desk.server]

    report = desk.ask("ingest", picture)
    found = desk.ask("search", "--image", picture, "--save", sheet)
    segmented = desk.ask("segment", picture, "--point", "40,40", "--out", str(out))
    desk.ask("export", "--out", backup)
    desk.ask("restore", backup, "--index", f"edge:{folder / 'another'}")
    job = desk.ask("jobs", "add", picture, "--watch", *service)
    deleted = desk.ask("delete", picture, *service)

    assert report["files"][0]["uri"].endswith("/caf%E9.png")
    assert report["files"][0]["path"].endswith("/caf\N{REPLACEMENT CHARACTER}.png")
    assert any(hit["image"]["uris"][0].endswith("/caf%E9.png") for hit in found["hits"])
    assert segmented["file_uris"][0]["mask"].endswith("/out%E9/caf%E9-mask-1.png")
    assert job["last"][0]["uri"].endswith("/caf%E9.png")
    assert len(deleted["images"]) == 1
    assert [file.name for file in sorted(out.iterdir())] == [
        os.fsdecode(b"caf\xe9-cutout-1.png"),
        os.fsdecode(b"caf\xe9-mask-1.png"),
    ]
    assert Path(sheet).is_file()


def test_joined_emoji_and_wide_spaces_stay_in_a_path(desk: Desk) -> None:
    names = [Path(file["path"]).name for file in desk.ask("ingest", str(desk.folder / "pictures"))["files"]]

    assert "\N{DOG FACE}\N{ZERO WIDTH JOINER}\N{HEAVY BLACK HEART}.png" in names
    assert "\N{IDEOGRAPHIC SPACE}wide.png" in names
