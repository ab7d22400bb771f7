"""Recipes of earlier ingests: what made their masks, and whether only the views differ."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import get_args

from segdex_core.choices import Quality
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import IndexFingerprint, MaskRecipe
from segdex_ingest.analyse import recipe_fingerprint
from segdex_ingest.masks.generate import meta_settings, preset
from segdex_ingest.masks.rank import ranker_fingerprint, shipped_decoders
from segdex_ingest.plan import IngestPlan
from segdex_ingest.views import ViewNumbers

_SHARES = tuple(round(step / 20, 2) for step in range(21))
"""Values of ``RegionEmbedder.region_share``; every embedder has a multiple of 0.05."""


def made_masks(found: IndexFingerprint, noted: Mapping[str, MaskRecipe]) -> dict[str, MaskRecipe]:
    """Return what made the masks of an index, by recipe.

    An ingest notes it in the index. For images of an ingest that did not, the recipes of ``--quality`` and
    ``--select meta`` are computed; a recipe with other options is missing.

    Args:
        found: Fingerprint of the index.
        noted: ``IndexAdmin.recipes`` of the index.
    """
    computed = {
        recipe_fingerprint(masks, found.embedder, views): masks
        for masks in _usual_masks(found.segmenter)
        for views in _possible_views()
    }
    return {**computed, **noted}


def count_other_views(plan: IngestPlan, index: SegmentIndex) -> int:
    """Return the number of outdated images of a plan that only need vectors of other views.

    Args:
        plan: Plan of an ingest.
        index: Index that the images are in.
    """
    found = index.fingerprint()
    ids = {file.image_id for file in plan.files if file.state == "outdated" and file.image_id is not None}
    if found is None or not ids:
        return 0
    made = made_masks(found, index.recipes())
    counts = Counter(record.recipe for record in index.get_images(list(ids)))

    def needs_views(recipe: str) -> bool:
        return recipe in made and any(
            plan.recipe == recipe_fingerprint(made[recipe], found.embedder, views)
            for views in _possible_views()
        )

    return sum(count for recipe, count in counts.items() if needs_views(recipe))


def is_of_embedder(recipe: str, found: IndexFingerprint, noted: Mapping[str, MaskRecipe]) -> bool:
    """Return whether the embedder of an index made the vectors of images with a recipe; True if unknown.

    Args:
        recipe: Recipe of the images.
        found: Fingerprint of the index.
        noted: ``IndexAdmin.recipes`` of the index.
    """
    made = noted.get(recipe)
    return made is None or any(
        recipe == recipe_fingerprint(made, found.embedder, views) for views in _possible_views()
    )


def _usual_masks(segmenter: str) -> Iterator[MaskRecipe]:
    for decoder_id in (None, *shipped_decoders()):
        for generator in (*map(preset, get_args(Quality)), meta_settings()):
            ranker = f"ranker({ranker_fingerprint(decoder_id)})"
            yield MaskRecipe(segmenter=segmenter, generator=generator.fingerprint(), ranker=ranker)


def _possible_views() -> Iterator[str]:
    numbers = ViewNumbers()
    yield numbers.pooled_fingerprint()
    for share in _SHARES:
        yield numbers.fingerprint(region_share=share)
