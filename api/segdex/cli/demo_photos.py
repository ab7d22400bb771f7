"""The photographs of ``segdex demo``, which the packages scikit-image and scikit-learn contain."""

import importlib.util
from pathlib import Path

from segdex_core.errors import ModelMissingError

_PHOTOS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)

DEMO_QUERIES = ("a cat", "a cup of coffee", "a space rocket", "a motorcycle")
"""Queries of the demo; each matches one of the photographs."""


def demo_photos() -> list[Path]:
    """Return the paths of the photographs.

    Raises:
        ModelMissingError: If a package is not installed.
    """
    paths = []
    for package, name in _PHOTOS:
        spec = importlib.util.find_spec(package)
        path = Path(spec.origin).parent / name if spec is not None and spec.origin is not None else None
        if path is None or not path.is_file():
            raise ModelMissingError(f"the demo needs {name} of {package}: pip install 'segdex[demo]'")
        paths.append(path)
    return paths
