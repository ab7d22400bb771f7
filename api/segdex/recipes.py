"""Recipes whose fingerprints are cached between commands: an ingest with nothing to do loads no model."""

import json
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import RLock

from pydantic import BaseModel, ValidationError

from segdex_core.files import write_durably
from segdex_ingest.analyse import Recipe


class _Entry(BaseModel):
    recipe: str
    image_s: float | None = None


class _Entries(BaseModel):
    by_key: dict[str, _Entry] = {}


_KEPT = 100
"""Maximum number of entries in the cache file; the oldest are removed first."""


class RememberedRecipe:
    """A recipe whose fingerprint is cached in a file; see ``segdex_ingest.analyse.RecipeSource``.

    Args:
        load: Loads the models.
        key: Key of everything that the models depend on, as far as it is known before they are loaded.
        file: Cache file; it can be deleted at any time.
    """

    def __init__(self, load: Callable[[], Recipe], *, key: str, file: Path) -> None:
        self._load = load
        self._key = key
        self._file = file
        self._lock = RLock()
        self._loaded: Recipe | None = None

    def fingerprint(self) -> str:
        """Return ``Recipe.fingerprint``; the models are loaded only if it is not cached."""
        return self.remembered() or self.load().fingerprint()

    def remembered(self) -> str | None:
        """Return ``Recipe.fingerprint`` if it is known without loading the models, otherwise None."""
        if self._loaded is not None:
            return self._loaded.fingerprint()
        known = _read(self._file).by_key.get(self._key)
        return None if known is None else known.recipe

    def load(self) -> Recipe:
        """Return the recipe; its models are loaded on the first call.

        Raises:
            ModelError: If a model cannot be downloaded or loaded.
        """
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
                self._remember(None)
            return self._loaded

    def image_s(self) -> float | None:
        """Return the wall seconds per image of the last ingest with these settings, or with any settings.

        None if no ingest was timed on this machine.
        """
        by_key = _read(self._file).by_key
        mine = by_key.get(self._key)
        times = [entry.image_s for entry in by_key.values() if entry.image_s is not None]
        return mine.image_s if mine is not None and mine.image_s is not None else next(reversed(times), None)

    def note_rate(self, image_s: float) -> None:
        """Store the wall seconds per image."""
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
            write_durably(self._file, _Entries(by_key=kept).model_dump_json().encode())


def _read(file: Path) -> _Entries:
    try:
        return _Entries.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return _Entries()  # missing or truncated: the models are loaded instead


def recipe_key(parts: dict[str, object], *, code: list[Path], places: list[Path]) -> str:
    """Return a digest that changes whenever settings, code or model files change.

    Args:
        parts: Settings.
        code: Folders whose Python files and arrays determine the result of a recipe.
        places: Model files or folders, compared by size and modification time.
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
