"""What a test needs from outside the repository: found, or skipped with the reason, or a failure in CI."""

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def missing(what: str, *, required: bool) -> None:
    """Skip the test because ``what`` is absent, or fail it where it must be there."""
    if required:
        pytest.fail(f"required here, but absent: {what}")
    pytest.skip(f"absent: {what}")


def in_ci() -> bool:
    """Whether everything that a test needs has to be there."""
    return os.environ.get("CI") == "true"


def shared(*parts: str) -> Path:
    """Return a path in the shared folder (``SEGDEX_SHARED``, else ``../shared``)."""
    root = Path(os.environ.get("SEGDEX_SHARED", ROOT.parent / "shared"))
    path = root.joinpath(*parts)
    if not path.exists():
        missing(f"{path} (set SEGDEX_SHARED)", required=os.environ.get("SEGDEX_REQUIRE_SHARED") == "1")
    return path


def package(name: str, extra: str) -> None:
    """Require an importable package that comes with one of the project's extras."""
    if importlib.util.find_spec(name) is None:
        missing(f"package {name} (pip install 'segdex[{extra}]')", required=in_ci())


def photo(name: str) -> Path:
    """Return the path of a real photograph that an installed package carries.

    ``astronaut.png chelsea.png coffee.png rocket.jpg motorcycle_left.png hubble_deep_field.jpg`` come with
    scikit-image, ``china.jpg flower.jpg`` with scikit-learn.
    """
    for module, folder in (("skimage", "data"), ("sklearn", "datasets/images")):
        package(module, "demo")
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / folder / name
            if path.exists():
                return path
    missing(f"photograph {name} in scikit-image or scikit-learn", required=in_ci())
    raise AssertionError("unreachable")
