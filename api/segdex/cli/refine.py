"""What ``segdex search`` shows of refined hits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

import numpy as np

from segdex.render.drawing import SheetRow, Tile, contact_sheet, draw_heat, draw_prompt
from segdex.render.results import read_picture
from segdex.wiring import open_source
from segdex_core.errors import UsageError
from segdex_core.settings import Settings
from segdex_search.rank import SearchHit
from segdex_search.refine.refiner import Refinement

DEFAULT_REFINED = 5
"""Hits that ``--refine`` without a number re-decodes."""


def with_refine_default(arguments: Sequence[str]) -> list[str]:
    """Return command line arguments with the number that ``--refine`` may be given without.

    Example:
        >>> with_refine_default(["search", "--refine", "a cat"])
        ['search', '--refine', '5', 'a cat']
    """
    completed: list[str] = []
    for position, argument in enumerate(arguments):
        completed.append(argument)
        following = arguments[position + 1] if position + 1 < len(arguments) else ""
        if argument == "--refine" and not following.lstrip("-").isdigit():
            completed.append(str(DEFAULT_REFINED))
    return completed


def save_explanation(
    path: Path,
    hits: Sequence[SearchHit],
    refined: Mapping[UUID, Refinement],
    settings: Settings,
    *,
    title: str,
) -> None:
    """Write a picture of how each refined hit came about: stored mask, map, prompt and new mask.

    Raises:
        UsageError: If the file cannot be written.
    """
    rows = []
    for hit in hits:
        pixels = None
        for segment in hit.segments:
            one = refined.get(segment.segment_id)
            if one is None:
                continue
            if pixels is None:
                pixels = read_picture(hit.image, source=open_source(), max_pixels=settings.max_pixels)
            views = ", ".join(f"{view} {score:.3f}" for view, score in segment.view_scores.items())
            stored = f"stored\npredicted IoU {segment.record.predicted_iou:.2f}"
            tiles = [Tile(pixels, segment.record.mask, stored)]
            if one.relevance is not None and one.prompt is not None:
                relevance, prompt = one.relevance, one.prompt
                heat = draw_heat(pixels, relevance.values, relevance.window)
                drawn = draw_prompt(pixels, prompt.points_xy, prompt.labels, prompt.box_xyxy)
                low, high = float(np.min(relevance.values)), float(np.max(relevance.values))
                tiles.append(Tile(heat, None, f"relevance\n{low:.1f} to {high:.1f} deviations"))
                tiles.append(Tile(drawn, None, "prompt of the map\npoints on and off it, box"))
            mask = one.proposal.mask
            new = f"{one.proposal.source}\npredicted IoU {mask.predicted_iou:.2f}"
            tiles.append(Tile(pixels, mask.mask if mask.area_px else None, new))
            answer = "refined" if one.decision.accepted else "kept"
            rows.append(SheetRow(f"{segment.score:.3f} ({views}): {answer}, {one.decision.reason}", tiles))
    sheet = contact_sheet(rows, title=title, columns=4, tile_px=320)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, "PNG")
    except OSError as error:
        raise UsageError(f"--explain {path}: cannot be written: {error.strerror or error}") from error
