"""Ids derived from content: equal bytes and equal masks have equal ids everywhere."""

from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from segdex_core.masks import MaskRLE

_NAMESPACE = UUID("6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11")  # must never change: ids are derived from it


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of ``data`` as 64 hexadecimal digits: the identity of an image."""
    return sha256(data).hexdigest()


def make_image_id(digest: str) -> UUID:
    """Return the id of an image: a UUIDv5 of the SHA-256 of its bytes."""
    return uuid5(_NAMESPACE, f"image:{digest}")


def make_segment_id(image_id: UUID, mask: "MaskRLE") -> UUID:
    """Return the id of a segment: a UUIDv5 of its image and its mask.

    Equal masks of an image have equal ids, so a second ingest overwrites the segment.
    """
    height, width = mask.size_hw
    return uuid5(image_id, f"segment:{height}x{width}:{mask.counts}")
