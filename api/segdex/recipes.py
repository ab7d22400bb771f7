"""Recipes that are remembered between commands, so that an ingest with nothing to do loads no model."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import RLock

from pydantic import BaseModel, ValidationError

from segdex_ingest.analyse import Recipe


class _Entry(BaseModel):
    recipe: str
    image_s: float | None = None


class _Entries(BaseModel):
    by_key: dict[str, _Entry] = {}


_KEPT = 100
"""Entries of the file; the oldest go first."""


class RememberedRecipe:
    """A recipe by the settings that choose it; see ``segdex_ingest.analyse.RecipeSource``.

    Args:
        load: Loads the models.
        key: Everything that the models depend on, as far as it is known without loading them.
        file: What is remembered; it may be deleted at any time.
    """

    def __init__(self, load: Callable[[], Recipe], *, key: str, file: Path) -> None:
        self._load = load
        self._key = key
        self._file = file
        self._lock = RLock()
        self._loaded: Recipe | None = None

    def fingerprint(self) -> str:
        """Return ``Recipe.fingerprint``; loads the models only where it is not remembered."""
        return self.remembered() or self.load().fingerprint()

    def remembered(self) -> str | None:
        """Return ``Recipe.fingerprint`` where it is known without loading the models, else None."""
        if self._loaded is not None:
            return self._loaded.fingerprint()
        known = _read(self._file).by_key.get(self._key)
        return None if known is None else known.recipe

    def load(self) -> Recipe:
        """Return the recipe; its models are loaded once.

        Raises:
            ModelError: If a model cannot be fetched or loaded.
        """
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
                self._remember(None)
            return self._loaded

    def image_s(self) -> float | None:
        """Return the wall seconds that a picture took in the last ingest with these settings, or any other.

        None where no ingest was timed on this machine.
        """
        by_key = _read(self._file).by_key
        mine = by_key.get(self._key)
        times = [entry.image_s for entry in by_key.values() if entry.image_s is not None]
        return mine.image_s if mine is not None and mine.image_s is not None else next(reversed(times), None)

    def note_rate(self, image_s: float) -> None:
        """Remember the wall seconds that a picture took."""
        self._remember(image_s)

    def _remember(self, image_s: float | None) -> None:
        if self._loaded is None:
            return
        by_key = _read(self._file).by_key
        before = by_key.pop(self._key, None)
        by_key[self._key] = _Entry(
            recipe=self._loaded.fingerprint(),
            image_s=image_s if image_s is not None or before is None else before.image_s,
        )
        kept = dict(list(by_key.items())[-_KEPT:])
        with suppress(OSError):  # a cache that cannot be written only costs time
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part = self._file.with_suffix(f".{os.getpid()}.part")
            part.write_text(_Entries(by_key=kept).model_dump_json())
            part.replace(self._file)


def _read(file: Path) -> _Entries:
    try:
        return _Entries.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return _Entries()  # not there, or cut short: the models are loaded instead


def recipe_key(parts: dict[str, object], *, code: list[Path], places: list[Path]) -> str:
    """Return a text that differs whenever settings, code or model files differ.

    Args:
        parts: The settings.
        code: Folders whose Python files and arrays decide what a recipe makes.
        places: Files or folders of models, told apart by size and time.
    """
    digest = sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for folder in code:
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".py", ".npz"}:
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            status = path.stat()
            digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}".encode())
    return digest.hexdigest()
