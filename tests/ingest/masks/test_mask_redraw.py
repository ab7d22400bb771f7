"""Masks re-decoded from their boxes: what is replaced, and what stays."""

import numpy as np
import numpy.typing as npt
import pytest
from tests.fakes.segmenter import FloodFeatures, FloodSegmenter, PlainSegmenter

from segdex_core.geometry import MaskBoxXYXY
from segdex_core.ports.prompts import DecodedMasks, Prompts
from segdex_core.ports.segmenter import ImageFeatures
from segdex_ingest.masks.decode import (
    Candidates,
    Edges,
    Thresholds,
    decode_near_points,
    decode_points,
    join_candidates,
)
from segdex_ingest.masks.grid import point_grid
from segdex_ingest.masks.redraw import redraw

NO_THRESHOLDS = Thresholds(predicted_iou=0, stability=0, stability_offset=1)


def picture() -> npt.NDArray[np.uint8]:
    image = np.full((512, 512, 3), 230, np.uint8)
    for y in range(16, 512, 96):
        for x in range(16, 512, 96):
            image[y : y + 24, x : x + 24] = (200, 30, 30)
    return image


class Squares(FloodSegmenter):
    """Answers a box with itself: three masks, of which the second is the best."""

    def __init__(self) -> None:
        self.prompts: list[Prompts] = []

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        assert isinstance(features, FloodFeatures)
        if prompts.labels.shape[1] == 1:
            return super().decode(features, prompts, multimask=multimask)
        self.prompts.append(prompts)
        height, width = features.size_hw
        boxes = np.round(prompts.points_xy / (width, height) * features.mask_px).astype(int)
        logits = np.full((len(prompts), 3, features.mask_px, features.mask_px), -8, np.float32)
        for row, ((x1, y1), (x2, y2)) in enumerate(boxes):
            logits[row, 1, y1:y2, x1:x2] = 8
            logits[row, 2] = 8
        part = features.part or MaskBoxXYXY.whole(features.mask_px)
        estimates = np.tile(np.array([0.2, 0.9, 0.3], np.float32), (len(prompts), 1))
        return DecodedMasks(
            logits[:, :, part.y1 : part.y2, part.x1 : part.x2], estimates, tokens=estimates[..., None]
        )


def some(segmenter: FloodSegmenter, *, near: bool) -> tuple[ImageFeatures, Candidates]:
    [features] = segmenter.encode([picture()], frame_px=512)
    points = point_grid((512, 512), points_per_side=16)
    if near:
        found = decode_near_points(segmenter, features, points, thresholds=NO_THRESHOLDS, part_px=48)
    else:
        found = decode_points(segmenter, features, points, thresholds=NO_THRESHOLDS)
    return features, join_candidates(list(found))


def redrawn(
    segmenter: FloodSegmenter, features: ImageFeatures, found: Candidates, chosen: list[int], cuts: Edges
) -> Candidates:
    return redraw(
        found,
        np.asarray(chosen, np.intp),
        features=features,
        segmenter=segmenter,
        cuts=cuts,
        stability_offset=1.0,
    )


def test_chosen_masks_become_the_best_of_their_box_and_the_others_stay() -> None:
    for near in (False, True):
        segmenter = Squares()
        features, found = some(segmenter, near=near)
        chosen = list(range(0, len(found), 7))

        drawn = redrawn(segmenter, features, found, chosen, Edges())

        assert sum(len(prompts) for prompts in segmenter.prompts) == len(chosen)
        for position in range(len(found)):
            old, new = (each.frame_logits(position) > 0 for each in (found, drawn))
            if position in chosen:
                rows, columns = np.flatnonzero(old.any(axis=1)), np.flatnonzero(old.any(axis=0))
                box = MaskBoxXYXY(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
                expected = np.zeros_like(old)
                expected[box.y1 : box.y2, box.x1 : box.x2] = True
                np.testing.assert_array_equal(new, expected)
                assert drawn.predicted_iou[position] == np.float32(0.9)
                assert drawn.stability[position] == 1
                assert drawn.tokens[position] == np.float16(0.9)  # of the mask that was chosen
            else:
                np.testing.assert_array_equal(new, old)
                assert drawn.predicted_iou[position] == found.predicted_iou[position]
                np.testing.assert_array_equal(drawn.tokens[position], found.tokens[position])
        assert drawn.parts == found.parts


def test_what_would_be_cut_off_stays_as_it_was() -> None:
    segmenter = Squares()
    features, found = some(segmenter, near=False)
    at_edge = [i for i in range(len(found)) if (found.frame_logits(i) > 0)[:, 0].any()]
    inside = [i for i in range(len(found)) if i not in at_edge]

    drawn = redrawn(segmenter, features, found, [*at_edge[:3], *inside[:3]], Edges(left=True))

    assert at_edge
    assert inside
    for position in at_edge[:3]:
        np.testing.assert_array_equal(drawn.logits[position], found.logits[position])
    assert (drawn.predicted_iou[inside[:3]] == np.float32(0.9)).all()


def test_nothing_chosen_changes_nothing_and_asks_nothing() -> None:
    segmenter = Squares()
    features, found = some(segmenter, near=True)

    drawn = redrawn(segmenter, features, found, [], Edges())

    assert segmenter.prompts == []
    np.testing.assert_array_equal(drawn.predicted_iou, found.predicted_iou)


def test_masks_of_parts_are_not_redrawn_by_a_segmenter_that_cannot_narrow() -> None:
    flood, plain = FloodSegmenter(), PlainSegmenter()
    [features] = flood.encode([np.zeros((256, 256, 3), np.uint8)])
    part = MaskBoxXYXY(0, 0, 96, 96)
    points = np.array([[20, 20]], np.float32)
    found = join_candidates(
        list(
            decode_points(
                flood, flood.narrow(features, part), points, thresholds=Thresholds(-1, 0, 1), part=part
            )
        )
    )

    with pytest.raises(ValueError, match="has no narrow"):
        redraw(
            found,
            np.array([0]),
            features=features,
            segmenter=plain,
            cuts=Edges(),
            stability_offset=1.0,
        )
