"""Names that Linux allows and texts that people paste, and a command for each that segdex has."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from tests.fakes.dataset import png
from typer.main import get_command

from segdex.cli.commands import COMMANDS, load_command
from segdex.cli.main import build_app
from segdex_core.choices import ExportFormat

NAMES = (
    b"caf\xe9.png",  # Latin-1
    "caf\N{LATIN SMALL LETTER E WITH ACUTE}.png".encode(),
    "\N{CYRILLIC SMALL LETTER KA}\N{CJK UNIFIED IDEOGRAPH-706B}.png".encode(),
    "\N{DOG FACE}\N{ZERO WIDTH JOINER}\N{HEAVY BLACK HEART}.png".encode(),
    "\N{IDEOGRAPHIC SPACE}wide.png".encode(),
    b"line\nbreak\ttab.png",
    b"\x1b[31mred\x1b[0m.png",
    b"\x1b]0;title\x07.png",
    b"\xc2\x9b31mc1.png",  # a control sequence of one character
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe.png".encode(),
    b"[red]hot[\\].png",  # markup of a terminal library
    b"a%20b#c?d.png",
    b"..hidden.png",
    b"quote'\"`$(x).png",
    b"n" * 251 + b".png",
)
COLOURS = ("red", "green", "blue", "pink")

TEXTS = tuple(os.fsdecode(name.removesuffix(b".png")) for name in NAMES)


def make_pictures(folder: Path) -> None:
    """Write a picture of each name."""
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (folder / os.fsdecode(name)).write_bytes(png(COLOURS[number % 4], (120 + number, 90)))


def leaves() -> Iterator[str]:
    """Yield the words of each command of the application."""
    app = get_command(build_app())
    context = app.make_context("segdex", [], resilient_parsing=True)
    for name in COMMANDS:
        command: Any = load_command(name, context)
        inner = getattr(command, "commands", None)
        yield from (f"{name} {each}" for each in inner) if inner is not None else (name,)


class Place:
    """What the commands are told: where pictures, an index and a service are, and ids that exist."""

    def __init__(self, folder: Path, *, text: str, server: str, segment: str, image: str, job: str) -> None:
        self.folder, self.text, self.server = folder, text, server
        self.segment, self.image, self.job = segment, image, job

    @property
    def pictures(self) -> str:
        return str(self.folder / "pictures")

    @property
    def picture(self) -> str:
        return str(self.folder / "pictures" / f"{self.text}.png")


WITHOUT_JSON = frozenset({"demo", "jobs stop", "keys", "models pull", "serve", "worker"})


def arguments_of(command: str, place: Place) -> list[list[str]]:
    """Return what follows a command: once or more often, with the odd text wherever one can stand."""
    text, folder, server = place.text, place.folder, ["--server", place.server]
    data = str(folder / "set")
    made: dict[str, list[list[str]]] = {
        "ingest": [
            [place.pictures],
            [place.pictures, "--exclude", text, "--dry-run"],
            [place.picture, "--tag", "t"],
            [place.pictures, "--json-lines"],
            [place.picture, *server],
            [str(folder / f"absent {text}")],
        ],
        "search": [
            ["red"],
            ["red", "--save", str(folder / f"{text}-sheet.png")],
            ["red", "--refine", "1", "--explain", str(folder / f"{text}-map.png")],
            ["--image", place.picture],
            ["--image", str(folder / f"absent {text}")],
            ["red", "--source", place.picture, *server],
            ["red", "--label", text],
            [text],
            [text, *server],
        ],
        "segment": [
            [place.picture, "--point", "40,40", "--out", str(folder / f"out {text}")],
            [place.picture, "--point", "40,40", *server],
            [place.picture, "--point", text],
            [str(folder / f"absent {text}"), "--point", "1,1"],
        ],
        "show": [
            [place.segment, "--out", str(folder / f"show {text}")],
            [place.segment, "--out", str(folder / "show"), *server],
            [text],
        ],
        "label": [["red", "blue"], [text, "--dry-run"], ["--list"], ["--from", str(folder / text)]],
        "set create": [[text], [text, *server]],
        "set list": [[], server],
        "set add": [[f"a {text[:40]}", place.segment], [text, text], [text, place.image, *server]],
        "set show": [[text], [f"a {text[:40]}"]],
        "set rename": [[f"a {text[:40]}", f"b {text[:40]}"]],
        "set remove": [[f"b {text[:40]}", place.segment]],
        "set delete": [[f"b {text[:40]}"], [text]],
        "concept mark": [[text[:40], "--right", place.segment, "--text", text], ["c", "--right", text]],
        "concept list": [[], server],
        "concept show": [[text[:40]], [text, *server]],
        "concept rename": [[text[:40], f"d {text[:40]}"]],
        "concept delete": [[f"d {text[:40]}"]],
        "stats": [[], server],
        "delete": [[str(folder / f"absent {text}")], [place.picture], [place.picture, *server]],
        "sync": [["--dry-run"], []],
        "doctor": [[], server],
        "reembed": [["--dry-run"], ["--drop-old"]],
        "export": [
            ["--out", str(folder / f"backup {text[:40]}")],
            ["--out", place.picture],
            *(
                ["--all", "--format", form, "--out", str(folder / f"{form} {text[:40]}")]
                for form in get_args(ExportFormat)
                if form != "parquet"
            ),
            ["red", "--format", "coco", "--category", text, "--out", str(folder / f"red {text[:40]}.json")],
            ["--all", "--format", "csv", "--out", str(folder / f"served {text[:40]}.csv"), *server],
        ],
        "import": [
            [str(folder / f"red {text[:40]}.json"), "--format", "coco", "--by", text],
            [str(folder / f"coco {text[:40]}" / "annotations.json"), "--format", "coco", "--dry-run"],
            [str(folder / f"absent {text}"), "--format", "label-studio"],
        ],
        "restore": [
            [str(folder / f"backup {text[:40]}"), "--index", f"edge:{folder / 'restored'} {text}"],
            [str(folder / f"absent {text}")],
        ],
        "jobs list": [server],
        "jobs add": [[place.picture, "--watch", *server], [place.picture, *server], [text, *server]],
        "jobs watch": [[place.job, *server], [text, *server]],
        "jobs stop": [[place.job, *server], [text, *server]],
        "models list": [[]],
        "models pull": [["--segmenter", text], ["--index", text]],
        "eval masks": [[data], [str(folder / text)]],
        "eval search": [[data, "--index", f"edge:{folder / 'measured'}"], [str(folder / text)]],
        "eval refine": [[data, "--index", f"edge:{folder / 'measured'}"], [str(folder / text)]],
        "eval prompts": [[data], [str(folder / text)]],
        "calibrate": [[data, "--dry-run", "--index", f"edge:{folder / 'measured'}"], [str(folder / text)]],
        "keys": [[text]],
        "serve": [["--port", "0", "--index", f"edge:{folder / text}"]],  # both would run on and on
        "worker": [["--device", text]],
        "demo": [["--device", text]],  # its photographs take minutes on fakes
    }
    return made[command]
