"""The demo's photographs, ingested with the real models: whole objects come first, and parts are no wholes.

``demo_masks.json`` has outlines drawn by hand, in pixels. The rocket is outlined with the strongback that
holds it.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from docs.images.hero import EXPECTED as HERO
from PIL import Image, ImageDraw
from tests.real_models import onnx_sam2_files

from segdex.cli.demo_photos import DEMO_QUERIES, demo_photos
from segdex.wiring import REAL, build_settings, open_library
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.masks import MaskRLE, encode_mask, rle_iou
from segdex_core.media.uris import canonical_uri, uri_to_path
from segdex_core.wire.limits import Level
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import preset
from segdex_ingest.run import IngestOptions, ingest_into
from segdex_search.answer import search
from segdex_search.queries import SearchQuery, TextTerm

pytestmark = [pytest.mark.models, pytest.mark.slow]

OUTLINES = json.loads((Path(__file__).parent / "demo_masks.json").read_text())


@pytest.fixture(name="recipe", scope="module")
def _recipe() -> Recipe:
    onnx_sam2_files()  # says what is absent
    settings = build_settings(profile="offline", precision="fp32")  # the fastest one differs between machines
    return open_library(settings, REAL, has_index=False).models.recipes(preset("balanced")).load()


@pytest.fixture(name="index", scope="module")
def _index(recipe: Recipe) -> Iterator[MemoryIndex]:
    index = MemoryIndex()
    report = ingest_into(
        index,
        recipe,
        [canonical_uri(photo) for photo in demo_photos()],
        source=FileSource(),
        profile="offline",
        options=IngestOptions(max_pixels=10**7, max_bytes=10**8, analysis_threads=2),
    )
    assert report.segments
    yield index
    index.close()


def first_segments(
    text: str, *, index: MemoryIndex, recipe: Recipe, level: Level = "any"
) -> list[tuple[str, MaskRLE]]:
    """Return the file name and the mask of the best segments of all pictures, best first."""
    query = SearchQuery((TextTerm(text),), limit=8, per_image=3, level=level)
    hits = search(query, index=index, embedder=recipe.embedder).hits
    found = [(one, hit.image) for hit in hits for one in hit.segments]
    found.sort(key=lambda item: -item[0].score)
    return [(uri_to_path(image.files[0].uri).name, one.record.mask) for one, image in found]


def outlines(group: str, text: str, size_hw: tuple[int, int]) -> list[MaskRLE]:
    masks = []
    for polygon in OUTLINES[group][text]["polygons"]:
        canvas = Image.new("L", size_hw[::-1])
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in polygon], fill=1)
        mask: npt.NDArray[np.bool_] = np.asarray(canvas).astype(bool)
        masks.append(encode_mask(mask))
    return masks


@pytest.mark.parametrize("text", HERO)
def test_the_best_hit_of_the_picture_of_the_readme_is_on_the_right_photograph(
    text: str, index: MemoryIndex, recipe: Recipe
) -> None:
    """``python -m docs.images.hero`` draws it; a person has looked at the masks."""
    (photo, _), *_ = first_segments(text, index=index, recipe=recipe)

    assert photo == HERO[text]


def test_every_question_of_the_demo_has_an_outline() -> None:
    assert set(OUTLINES["whole"]) == set(DEMO_QUERIES)


@pytest.mark.parametrize("text", DEMO_QUERIES)
def test_the_first_hit_of_a_question_of_the_demo_is_the_whole_object(
    text: str, index: MemoryIndex, recipe: Recipe
) -> None:
    name, mask = first_segments(text, index=index, recipe=recipe)[0]

    assert name == OUTLINES["whole"][text]["image"]
    assert rle_iou([mask], outlines("whole", text, mask.size_hw)).max() >= 0.7


ANSWERED_WITH_THE_WHOLE = {"saucer"}
"""At the default level: the offline embedder does not know the word for what is there."""


LEVELS: tuple[Level, ...] = ("any", "part")
KNOWN = pytest.mark.xfail(strict=True, reason="the whole comes first")


@pytest.mark.parametrize(
    ("text", "level"),
    [
        pytest.param(text, level, marks=[KNOWN] if level == "any" and text in ANSWERED_WITH_THE_WHOLE else [])
        for text in OUTLINES["part"]
        for level in LEVELS
    ],
)
def test_a_part_is_not_answered_with_the_whole(
    text: str, level: Level, index: MemoryIndex, recipe: Recipe
) -> None:
    wholes = {one["image"]: question for question, one in OUTLINES["whole"].items()}
    name, mask = first_segments(text, index=index, recipe=recipe, level=level)[0]

    if name in wholes:
        assert rle_iou([mask], outlines("whole", wholes[name], mask.size_hw)).max() < 0.5


@pytest.mark.parametrize("text", ["helmet", "flag", "wheel", "spoon"])
def test_parts_that_the_embedder_knows_are_among_the_first_three(
    text: str, index: MemoryIndex, recipe: Recipe
) -> None:
    found = first_segments(text, index=index, recipe=recipe)[:3]

    assert any(
        name == OUTLINES["part"][text]["image"]
        and rle_iou([mask], outlines("part", text, mask.size_hw)).max() >= 0.5
        for name, mask in found
    )


def test_the_level_part_finds_a_saucer_under_its_cup(index: MemoryIndex, recipe: Recipe) -> None:
    name, mask = first_segments("saucer", index=index, recipe=recipe, level="part")[0]

    assert name == OUTLINES["part"]["saucer"]["image"]
    assert rle_iou([mask], outlines("part", "saucer", mask.size_hw)).max() >= 0.5
