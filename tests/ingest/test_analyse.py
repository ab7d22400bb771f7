"""One picture becomes segments, vectors and records that belong together."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tests.fakes.embedder import ColourEmbedder, PlainEmbedder, PoolingEmbedder
from tests.fakes.segmenter import FloodSegmenter, PlainSegmenter

from segdex_core.choices import ViewMode
from segdex_core.errors import ImageTooLargeError, NotAnImageError, UsageError
from segdex_core.ids import make_image_id, make_segment_id
from segdex_core.masks import decode_mask
from segdex_core.records import SEGMENT_VIEWS, EmbeddedSegments, ImageFile, ImageRecord, RGBImage, Vectors
from segdex_ingest.analyse import AnalysedImage, Recipe, analyse, build_records
from segdex_ingest.masks.generate import GeneratorSettings, newer_setting
from segdex_ingest.masks.tree import ancestors_of
from segdex_ingest.views import SegmentViews

# min_region_px fills the hole that the inner thing leaves in the outer one
RECIPE = Recipe(
    FloodSegmenter(),
    ColourEmbedder(),
    GeneratorSettings(
        points_per_side=4, explained_above=1.0, crop_layers=0, redraws=False, min_region_px=500
    ),
)


class CountingEmbedder(ColourEmbedder):
    """Remembers how many pictures each call had."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        self.calls.append(len(images))
        return super().embed_images(images)


def nested_picture() -> RGBImage:
    """Return a red thing inside a blue one on white, and a green one in the lower right corner."""
    image = np.full((96, 128, 3), 255, np.uint8)
    image[10:60, 10:70] = (30, 60, 220)
    image[26:46, 36:56] = (220, 30, 30)
    image[70:, 90:] = (30, 160, 60)
    return image


def encoded(image: RGBImage) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def analysed_by(image: RGBImage, recipe: Recipe) -> AnalysedImage:
    return analyse(encoded(image), recipe, name="a.png", max_pixels=10**6)


def records_of(image: RGBImage, recipe: Recipe) -> EmbeddedSegments:
    analysed = analysed_by(image, recipe)
    return build_records(analysed.segments, analysed.segment_vectors, record_of(image))


def record_of(image: RGBImage) -> ImageRecord:
    digest = "ab" * 32
    return ImageRecord(
        image_id=make_image_id(digest),
        sha256=digest,
        size_bytes=10,
        files=(ImageFile("file:///p/a.png", 1), ImageFile("file:///q/b.png", 2)),
        width=image.shape[1],
        height=image.shape[0],
        captured_s=12.5,
        place_lat_lon=None,
        tags=("blue", "red"),
        status="done",
        segment_count=0,
        recipe=RECIPE.fingerprint(),
    )


def test_every_vector_is_that_of_its_view_of_its_segment() -> None:
    image = nested_picture()
    analysed = analysed_by(image, RECIPE)
    views = SegmentViews.of(image)
    seen = {
        "crop": [views.crop(segment.box) for segment in analysed.segments],
        "mask": [views.blur(segment.box, decode_mask(segment.mask)) for segment in analysed.segments],
    }

    assert len(analysed.segments) >= 4
    for view, crops in seen.items():
        expected = RECIPE.embedder.embed_images(crops)
        np.testing.assert_array_equal(analysed.segment_vectors[view], expected)
    np.testing.assert_array_equal(analysed.image_vector, RECIPE.embedder.embed_images([image]))
    assert set(analysed.segment_vectors) == set(SEGMENT_VIEWS)


def test_an_analysis_can_be_pickled_and_says_what_it_was_made_of() -> None:
    data = encoded(nested_picture())

    analysed = analyse(data, RECIPE, name="a.png", max_pixels=10**6)
    back: AnalysedImage = pickle.loads(pickle.dumps(analysed))  # noqa: S301 - our own bytes

    for one in fields(AnalysedImage):
        mine, other = getattr(analysed, one.name), getattr(back, one.name)
        if one.name == "segment_vectors":
            assert mine.keys() == other.keys()
            for view in mine:
                np.testing.assert_array_equal(mine[view], other[view])
        elif one.name == "image_vector":
            np.testing.assert_array_equal(mine, other)
        else:
            assert mine == other
    assert analysed.image_id == make_image_id(sha256(data).hexdigest())
    assert (analysed.size_bytes, analysed.size_hw) == (len(data), (96, 128))
    assert analysed.recipe == RECIPE.fingerprint()


def test_no_call_of_the_embedder_is_long_and_a_checkpoint_comes_before_each() -> None:
    embedder, checkpoints = CountingEmbedder(), 0
    image = np.random.default_rng(0).integers(0, 4, size=(120, 160, 3), dtype=np.uint8) * 60
    settings = replace(
        RECIPE.generator, points_per_side=16, min_area_px=1, min_region_px=1, min_point_spacing_px=0
    )

    def checkpoint() -> None:
        nonlocal checkpoints
        checkpoints += 1

    analysed = analyse(
        encoded(image),
        replace(RECIPE, embedder=embedder, generator=settings),
        name="a.png",
        max_pixels=10**6,
        checkpoint=checkpoint,
    )

    assert sum(embedder.calls) == 1 + 2 * len(analysed.segments) > 64
    assert max(embedder.calls) == 64
    assert checkpoints > len(embedder.calls)


def test_what_a_checkpoint_raises_ends_the_analysis() -> None:
    left = 3

    def checkpoint() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyse(encoded(nested_picture()), RECIPE, name="a", max_pixels=10**6, checkpoint=checkpoint)


def test_models_are_not_asked_for_before_a_picture_is_decoded() -> None:
    class Nobody:
        def fingerprint(self) -> str:
            raise AssertionError

        def load(self) -> Recipe:
            raise AssertionError

    with pytest.raises(NotAnImageError):
        analyse(b"text", Nobody(), name="a", max_pixels=10**6)
    with pytest.raises(ImageTooLargeError):
        analyse(encoded(nested_picture()), Nobody(), name="a", max_pixels=100)


def test_a_newer_setting_at_its_neutral_value_leaves_the_fingerprint_as_it_was() -> None:
    @dataclass(frozen=True, slots=True)
    class Newer(GeneratorSettings):
        sharper: bool = newer_setting(neutral=False)

    assert Newer().fingerprint() == GeneratorSettings().fingerprint()
    assert Newer(points_per_side=5).fingerprint() == GeneratorSettings(points_per_side=5).fingerprint()
    assert Newer(sharper=True).fingerprint() != GeneratorSettings().fingerprint()


def test_where_the_embedder_can_pool_the_mask_view_is_a_mixture_of_the_blurred_crop_and_the_region() -> None:
    image = nested_picture()
    embedder = PoolingEmbedder()

    analysed = analysed_by(image, replace(RECIPE, embedder=embedder))
    plain = analysed_by(image, RECIPE)

    masks = [decode_mask(segment.mask) for segment in analysed.segments]
    mixed = 0.7 * plain.segment_vectors["mask"] + 0.3 * embedder.embed_regions(image, masks)
    expected = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    assert [one.mask for one in analysed.segments] == [one.mask for one in plain.segments]
    np.testing.assert_allclose(analysed.segment_vectors["mask"], expected, atol=1e-6)
    assert np.abs(expected - plain.segment_vectors["mask"]).max() > 0.01
    np.testing.assert_array_equal(analysed.segment_vectors["crop"], plain.segment_vectors["crop"])


class PoolingCounter(PoolingEmbedder, CountingEmbedder):
    """Counts what it embeds, and pools."""


def test_pooled_views_are_boxes_and_masks_of_one_pass_over_the_picture() -> None:
    image, embedder = nested_picture(), PoolingCounter()
    pooled = replace(RECIPE, embedder=embedder, views="pooled")

    analysed = analysed_by(image, pooled)

    assert embedder.calls == [1]  # the picture alone
    masks = [decode_mask(segment.mask) for segment in analysed.segments]
    np.testing.assert_array_equal(analysed.segment_vectors["mask"], embedder.embed_regions(image, masks))
    crops = [SegmentViews.of(image).crop(segment.box) for segment in analysed.segments]
    for row, crop in zip(analysed.segment_vectors["crop"], crops, strict=True):
        whole = np.ones(crop.shape[:2], np.bool_)
        np.testing.assert_allclose(row, embedder.embed_regions(crop, [whole])[0], atol=1e-6)
    assert pooled.fingerprint() != replace(pooled, views="crops").fingerprint()


def test_views_are_not_pooled_where_the_embedder_has_no_regions() -> None:
    with pytest.raises(UsageError, match=r"cannot be pooled with .*; use --views crops"):
        replace(RECIPE, views="pooled")


@pytest.mark.parametrize("views", ["crops", "pooled"])
def test_a_picture_without_segments_still_has_its_own_vector(views: ViewMode) -> None:
    recipe = replace(RECIPE, embedder=PoolingEmbedder(), views=views)
    recipe = replace(recipe, generator=replace(RECIPE.generator, min_area_px=10**9))

    analysed = analysed_by(nested_picture(), recipe)

    assert analysed.segments == []
    assert analysed.image_vector.shape == (1, recipe.embedder.dim)
    assert {rows.shape for rows in analysed.segment_vectors.values()} == {(0, recipe.embedder.dim)}


def test_the_records_repeat_what_the_segments_and_the_picture_say() -> None:
    image = nested_picture()
    analysed, stored = analysed_by(image, RECIPE), record_of(image)

    built = build_records(analysed.segments, analysed.segment_vectors, stored)

    parents = [segment.parent for segment in analysed.segments]
    ids = [record.segment_id for record in built.records]
    assert len(set(ids)) == len(ids)
    assert built.vectors is analysed.segment_vectors
    for position, (record, segment) in enumerate(zip(built.records, analysed.segments, strict=True)):
        assert record.segment_id == make_segment_id(stored.image_id, segment.mask)
        assert record.image_id == stored.image_id
        assert (record.box, record.mask, record.area_px) == (segment.box, segment.mask, segment.area_px)
        assert record.area_fraction == segment.area_px / (96 * 128)
        assert (record.predicted_iou, record.stability) == (segment.predicted_iou, segment.stability)
        assert record.object_score == segment.object_score
        assert record.ancestor_ids == tuple(ids[i] for i in ancestors_of(position, parents))
        assert record.segment_id not in record.ancestor_ids
        assert (record.sources, record.tags, record.captured_s) == (stored.sources, stored.tags, 12.5)


def test_the_tree_and_the_border_are_those_of_the_picture() -> None:
    image = nested_picture()

    records = records_of(image, RECIPE).records
    [blue] = [r for r in records if (r.box.x1, r.box.y1) == (10, 10)]
    [red] = [r for r in records if (r.box.x1, r.box.y1) == (36, 26)]
    [green] = [r for r in records if (r.box.x1, r.box.y1) == (90, 70)]

    assert red.parent_id == blue.segment_id
    assert not red.touches_border
    assert not blue.touches_border
    assert green.touches_border


def test_no_two_records_of_a_small_picture_share_an_id() -> None:
    image = np.random.default_rng(0).integers(0, 4, size=(9, 7, 3), dtype=np.uint8) * 60
    settings = replace(RECIPE.generator, min_point_spacing_px=0, min_area_px=1, min_region_px=4)
    recipe = replace(RECIPE, generator=settings)

    records = records_of(image, recipe).records

    assert len(records) > 1
    assert len({record.segment_id for record in records}) == len(records)


class OtherSegmenter(FloodSegmenter):
    """Another model."""

    fingerprint = "other"


@pytest.mark.parametrize(
    "other",
    [
        replace(RECIPE, segmenter=OtherSegmenter()),
        replace(RECIPE, embedder=ColourEmbedder(samples_per_side=16)),
        replace(RECIPE, generator=GeneratorSettings(points_per_side=5)),
        replace(RECIPE, embedder=PoolingEmbedder()),
    ],
    ids=["segmenter", "embedder", "generator", "regions"],
)
def test_every_part_changes_the_fingerprint_of_a_recipe(other: Recipe) -> None:
    assert other.fingerprint() != RECIPE.fingerprint()
    assert len(other.fingerprint()) == 16
    assert Recipe(RECIPE.segmenter, RECIPE.embedder, RECIPE.generator).fingerprint() == RECIPE.fingerprint()


def test_a_recipe_takes_models_without_any_capability() -> None:
    recipe = Recipe(PlainSegmenter(), PlainEmbedder())
    image = np.zeros((64, 64, 3), np.uint8)
    image[16:48, 16:48] = (220, 30, 30)

    analysed = analysed_by(image, recipe)

    assert recipe.fingerprint() != Recipe(FloodSegmenter(), PlainEmbedder()).fingerprint()
    assert analysed.segment_vectors["mask"].shape == (len(analysed.segments), recipe.embedder.dim)
