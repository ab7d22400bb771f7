"""The figures agree with brute force and with the COCO API, and move the way they should."""

from collections.abc import Sequence
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segdex.evaluation.metrics import (
    FoundMask,
    ImageTruth,
    best_ious,
    judge_hits,
    score_masks,
)
from segdex_core.errors import UsageError
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask, MaskRLE, encode_mask

SIZE_HW = (20, 30)
HERE, ELSEWHERE = UUID(int=1), UUID(int=2)


def box(x1: int, y1: int, x2: int, y2: int) -> MaskRLE:
    return encode_mask(box_mask(BoxXYXY(x1, y1, x2, y2)))


def box_mask(where: BoxXYXY) -> BoolMask:
    mask = np.zeros(SIZE_HW, dtype=bool)
    mask[where.y1 : where.y2, where.x1 : where.x2] = True
    return mask


def random_boxes(rng: np.random.Generator, count: int) -> list[BoolMask]:
    corners = rng.integers(0, 12, (count, 2))
    sides = rng.integers(4, 9, (count, 2))
    return [
        box_mask(BoxXYXY(int(x), int(y), int(x + w), int(y + h)))
        for (x, y), (w, h) in zip(corners, sides, strict=True)
    ]


def truth(instances: Sequence[MaskRLE], crowds: Sequence[MaskRLE] = ()) -> ImageTruth:
    return ImageTruth(name="here", size_hw=SIZE_HW, instances=tuple(instances), crowds=tuple(crowds))


def judge(masks: Sequence[MaskRLE], image: ImageTruth) -> list[bool]:
    return [right for _, right in judge_hits([FoundMask(HERE, mask) for mask in masks], {HERE: image})]


def test_best_iou_is_the_brute_force_maximum() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        true, found = random_boxes(rng, 4), random_boxes(rng, 6)
        wanted = [max((a & b).sum() / (a | b).sum() for b in found) for a in true]

        best = best_ious([encode_mask(m) for m in true], [encode_mask(m) for m in found], name="")
        np.testing.assert_allclose(best, wanted)


def test_no_masks_find_nothing_and_no_instances_give_no_figures() -> None:
    assert best_ious([box(0, 0, 5, 5)], [], name="").tolist() == [0]
    assert score_masks([]).overall.mean_iou is None
    assert score_masks([([], [])]).overall.instances == 0


def test_masks_of_another_size_are_refused() -> None:
    turned = encode_mask(np.ones(SIZE_HW[::-1], dtype=bool))

    with pytest.raises(UsageError, match=r"^cat\.jpg: the picture is 20 x 30 .*EXIF.* 30 x 20 pixels"):
        best_ious([box(0, 0, 5, 5)], [turned], name="cat.jpg")
    with pytest.raises(UsageError, match=r"^here: the picture is"):
        judge([turned], truth([box(0, 0, 5, 5)]))


def test_scores_worked_out_by_hand() -> None:
    figures = score_masks([([1023, 1024], [0.5, 0.76]), ([9215, 9216], [0.0, 1.0])])

    assert figures.overall.instances == 4
    assert figures.overall.mean_iou == pytest.approx(2.26 / 4)
    assert figures.overall.recall_50 == 3 / 4
    assert figures.overall.recall_75 == 2 / 4
    # of the ten cut-offs 0.50 reaches 1, 0.76 reaches .50 .55 .60 .65 .70 .75, and 1.0 reaches all
    assert figures.overall.ar == pytest.approx((1 + 6 + 0 + 10) / 40)
    assert (figures.small.instances, figures.small.mean_iou) == (1, 0.5)
    assert (figures.medium.instances, figures.medium.mean_iou) == (2, 0.38)
    assert (figures.large.instances, figures.large.recall_75) == (1, 1)


@given(st.lists(st.tuples(st.integers(1, 20_000), st.floats(0, 1)), min_size=1, max_size=20))
def test_scores_do_not_depend_on_how_instances_are_spread_over_pictures(
    rows: list[tuple[int, float]],
) -> None:
    together = score_masks([([a for a, _ in rows], [b for _, b in rows])])
    apart = score_masks([([a], [b]) for a, b in rows])

    assert together == apart
    assert together.overall.ar is not None
    assert together.overall.recall_50 is not None
    assert together.overall.ar <= together.overall.recall_50


def test_another_mask_never_lowers_a_best_iou() -> None:
    rng = np.random.default_rng(1)
    true = [encode_mask(m) for m in random_boxes(rng, 5)]
    found = [encode_mask(m) for m in random_boxes(rng, 8)]

    for count in range(8):
        assert (best_ious(true, found[: count + 1], name="") >= best_ious(true, found[:count], name="")).all()


def test_each_instance_counts_once() -> None:
    left, right = box(0, 0, 10, 10), box(15, 0, 25, 10)

    assert judge([left, right], truth([left, right])) == [True, True]
    assert judge([left, left, right], truth([left, right])) == [True, False, True]
    assert judge([left, left], truth([left, left])) == [True, True]


def test_the_iou_decides_at_one_half() -> None:
    half, less = box(0, 0, 5, 10), box(0, 0, 4, 10)

    assert judge([half], truth([box(0, 0, 10, 10)])) == [True]
    assert judge([less], truth([box(0, 0, 10, 10)])) == [False]


def test_hits_in_pictures_that_do_not_count_and_in_crowds_are_skipped() -> None:
    left, right = box(0, 0, 10, 10), box(15, 0, 25, 10)
    hits = [FoundMask(ELSEWHERE, left), FoundMask(HERE, right), FoundMask(HERE, left)]

    assert judge_hits(hits, {HERE: truth([left])}) == [(HERE, False), (HERE, True)]
    assert judge_hits(hits, {HERE: truth([left], crowds=[box(12, 0, 30, 20)])}) == [(HERE, True)]


def test_a_verdict_names_the_picture_of_its_hit() -> None:
    mask = box(0, 0, 10, 10)
    hits = [FoundMask(ELSEWHERE, mask), FoundMask(HERE, mask), FoundMask(ELSEWHERE, mask)]

    verdicts = judge_hits(hits, {HERE: truth([]), ELSEWHERE: truth([mask])})

    assert verdicts == [(ELSEWHERE, True), (HERE, False), (ELSEWHERE, False)]


@pytest.mark.parametrize("seed", range(8))
def test_verdicts_are_those_of_the_coco_api(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, crowds, found = random_boxes(rng, 6), random_boxes(rng, 2), random_boxes(rng, 40)
    scores = rng.permutation(40) / 40
    order = np.argsort(-scores)
    annotations = [
        {
            "id": n + 1,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": int(n >= len(true)),
            "area": int(mask.sum()),
            "segmentation": encode_mask(mask).to_coco(),
        }
        for n, mask in enumerate([*true, *crowds])
    ]
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": 1, "width": SIZE_HW[1], "height": SIZE_HW[0]}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "box"}],
    }
    coco.createIndex()
    results = [
        {"image_id": 1, "category_id": 1, "segmentation": encode_mask(mask).to_coco(), "score": float(score)}
        for mask, score in zip(found, scores, strict=True)
    ]
    reference = COCOeval(coco, coco.loadRes(results), "segm")
    reference.evaluate()
    matched = reference.evalImgs[0]["dtMatches"][0] > 0
    skipped = reference.evalImgs[0]["dtIgnore"][0].astype(bool)

    verdicts = judge(
        [encode_mask(found[i]) for i in order],
        truth([encode_mask(m) for m in true], [encode_mask(m) for m in crowds]),
    )
    assert verdicts == matched[~skipped].tolist()
    assert True in verdicts
    assert skipped.any()
