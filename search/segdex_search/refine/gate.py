"""The gate: a re-decoded mask replaces the stored one only if it shows the same object and is better."""

from dataclasses import dataclass

from segdex_core.masks import MaskRLE, rle_containment, rle_iou


@dataclass(frozen=True, slots=True)
class GateSettings:
    """When a new mask is taken; see docs/research/refinement.md and ``tests/reference/fit_refinement.py``.

    Attributes:
        iou_threshold: The masks are of one object from this IoU on.
        containment_threshold: Or from this share of the stored mask inside the new one; only a mask that was
            made of a text alone may be so much larger.
        gain_threshold: By so much the new predicted IoU must be higher than the stored one.
    """

    iou_threshold: float = 0.5
    containment_threshold: float = 0.9
    gain_threshold: float = 0.02


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate decided.

    Attributes:
        accepted: Whether the new mask replaces the stored one.
        reason: Why, in a few words; for people.
        iou: Of the new mask and the stored one.
        containment: Share of the stored mask inside the new one.
        gain: New less stored predicted IoU.
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
    """Return whether a new mask replaces the stored one.

    Args:
        stored: The mask of the retrieved segment.
        new: The re-decoded mask, of the same picture.
        stored_iou: Predicted IoU of the stored one.
        new_iou: Of the new one.
        settings: The thresholds.
        may_grow: Whether a new mask that contains the stored one is of the same object.
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
