"""The gate: a re-decoded mask replaces the stored mask only if it shows the same object and is better."""

from dataclasses import dataclass

from segdex_core.masks import MaskRLE, rle_containment, rle_iou


@dataclass(frozen=True, slots=True)
class GateSettings:
    """The thresholds of the gate; see docs/research/refinement.md and ``tests/reference/fit_refinement.py``.

    Attributes:
        iou_threshold: Minimum IoU of two masks of one object.
        containment_threshold: Alternative to ``iou_threshold``: minimum share of the stored mask inside the
            new mask. Applies only to masks made from a text alone, which may be much larger.
        gain_threshold: Minimum increase in predicted IoU.
    """

    iou_threshold: float = 0.5
    containment_threshold: float = 0.9
    gain_threshold: float = 0.02


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision of the gate.

    Attributes:
        accepted: Whether the new mask replaces the stored mask.
        reason: Short reason for people to read.
        iou: IoU of the new mask and the stored mask.
        containment: Share of the stored mask inside the new mask.
        gain: Predicted IoU of the new mask minus predicted IoU of the stored mask.
    """

    accepted: bool
    reason: str
    iou: float
    containment: float
    gain: float


def decide(
    stored: MaskRLE,
    new: MaskRLE,
    *,
    stored_iou: float,
    new_iou: float,
    settings: GateSettings,
    may_grow: bool = False,
) -> Decision:
    """Return whether a new mask replaces the stored mask.

    Args:
        stored: Mask of the stored segment.
        new: Re-decoded mask of the same image.
        stored_iou: Predicted IoU of the stored mask.
        new_iou: Predicted IoU of the new mask.
        settings: Thresholds of the gate.
        may_grow: Whether a new mask that contains the stored mask counts as the same object.
    """
    iou = float(rle_iou([stored], [new])[0, 0])
    containment = float(rle_containment([stored], [new])[0, 0])
    gain = new_iou - stored_iou

    def answer(accepted: bool, reason: str) -> Decision:
        return Decision(accepted, reason, iou=iou, containment=containment, gain=gain)

    same = iou >= settings.iou_threshold or (may_grow and containment >= settings.containment_threshold)
    if not same:
        return answer(False, f"another object: IoU {iou:.2f} with the stored mask")
    if gain < settings.gain_threshold:
        return answer(False, f"no better: predicted IoU {new_iou:.2f} after {stored_iou:.2f}")
    return answer(
        True, f"predicted IoU {new_iou:.2f} after {stored_iou:.2f}, IoU {iou:.2f} with the stored mask"
    )
