"""A folder in which the snippets of a page run: fakes for the models, a service, and the files they name."""

import json
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.fakes.embedder import COLOURS_RGB
from tests.fakes.parts import parts
from tests.loopback import Service

import segdex
from segdex.cli.main import run
from segdex.client import AsyncClient, Client
from segdex.library import Library
from segdex.parts import Parts
from segdex.wiring import build_settings, open_library
from segdex_backends.index.memory import MemoryIndex
from segdex_core.ports.index import SegmentIndex
from segdex_core.settings import Settings

SERVICES = re.compile(r"https?://(?:127\.0\.0\.1:8600|HOST:8600|pictures\.example)|\blocalhost:8600\b")
"""Addresses of a service in the pages."""

FILLED = (Settings.model_fields["index"].default, "edge:my-index", "edge:demo/index-offline")
"""Locations of an index that the pages take to be filled."""


@dataclass
class Desk:
    """Runs the snippets of one page, one after the other.

    Attributes:
        folder: The working folder.
        start_service: Starts the service over fakes that snippets ask.
    """

    folder: Path
    start_service: Callable[[], Service]
    _service: Service | None = None
    _indexes: dict[str, SegmentIndex] = field(default_factory=dict)

    @property
    def service(self) -> Service:
        """The service, which is started when a snippet first asks it."""
        if self._service is None:
            self._service = self.start_service()
        return self._service

    @property
    def parts(self) -> Parts:
        """What opens the indexes of this folder: filled ones by the locations of ``FILLED``, others empty."""
        fakes = parts(self.folder / "filled")

        def open_index(settings: Settings, *, create: bool) -> SegmentIndex:
            if settings.index not in self._indexes:
                filled = settings.index in FILLED
                self._indexes[settings.index] = (
                    fakes.open_index(settings, create=create) if filled else MemoryIndex()
                )
            return self._indexes[settings.index]

        return replace(fakes, open_index=open_index)

    def write_files(self) -> None:
        """Write the files and folders that the pages name."""
        for name in (
            "Pictures/one.png",
            "Pictures/2026/two.png",
            "photos/three.png",
            "umbrella.jpg",
            "valve.jpg",
        ):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            painted(len(name)).save(self.folder / name, quality=95)
        painted(0, scale=2).save(self.folder / "cat.jpg", quality=95)  # as large as the point in it asks for
        (self.folder / "words.txt").write_text("dog\ncat\n")

    def command(self, words: list[str]) -> int:
        """Run a command of segdex in this process and return its exit code."""
        return run(self._filled_in(words), parts=self.parts)

    def python(self, source: str, names: dict[str, Any]) -> None:
        """Run a program, which finds and leaves its names in ``names``."""
        program = compile(self._with_service(source), "<snippet>", "exec")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as for a reader: a warning of another package is no failure
            exec(program, names)  # noqa: S102 - our own pages

    def curl(self, words: list[str]) -> httpx.Response:
        """Send what the options -H and -d of curl say to the service."""
        headers, body, url = {}, None, ""
        rest = iter(words)
        for word in rest:
            if word == "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            elif word == "-d":
                body = self._filled_in([next(rest)])[0]
            elif not word.startswith("-"):
                url = self._with_service(word)
        json.loads(body or "null")
        headers.pop("Authorization", None)  # the service here has no keys
        return httpx.request("GET" if body is None else "POST", url, headers=headers, content=body)

    def library(self) -> Library:
        """Return a library on the filled index."""
        return open_library(build_settings(index="edge:my-index"), self.parts)

    def replace_openings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have ``segdex.open`` and its kin open what is here."""

        def opened(location: str, **_: object) -> Library | Client:
            if self._service is not None and location == self._service.url:
                return Client(location)
            return open_library(build_settings(index=location), self.parts)

        monkeypatch.setattr(segdex, "open", opened)
        monkeypatch.setattr(segdex, "open_async", AsyncClient)

    def _with_service(self, text: str) -> str:
        return SERVICES.sub(lambda _: self.service.url, text) if SERVICES.search(text) else text

    def _filled_in(self, words: list[str]) -> list[str]:
        """Return the words with values in place of what stands for one."""
        values = self._values()
        filled = []
        for word in words:
            shown = self._with_service(word).replace("/pictures", "~/Pictures")
            shown = shown.replace("~", str(self.folder)) if "~/" in shown else shown
            for name, each in values.items():
                while found := re.search(rf"(?<![A-Z_]){name}(?![A-Z_])", shown):
                    shown = shown[: found.start()] + next(each) + shown[found.end() :]
            filled.append(shown)
        return filled

    def _values(self) -> dict[str, Iterator[str]]:
        with self.library() as library:
            hits = list(library.search("red", limit=10, per_image=10))
        segments = [str(hit.id) for hit in hits]
        return {
            "SEGMENT_ID": iter(segments),
            "IMAGE_ID": iter([str(hit.image.id) for hit in hits]),
            "ID": iter(segments),
            "6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11": iter(segments),
        }


def painted(seed: int, *, scale: int = 1) -> Image.Image:
    """Return a picture of a red and a blue box on grey; the boxes lie where the seed says."""
    pixels = np.full((120, 160, 3), COLOURS_RGB["grey"], np.uint8)
    pixels[15 : 45 + seed, 10:50] = COLOURS_RGB["red"]
    pixels[30:100, 75 : 125 + seed] = COLOURS_RGB["blue"]
    return Image.fromarray(pixels.repeat(scale, 0).repeat(scale, 1))
