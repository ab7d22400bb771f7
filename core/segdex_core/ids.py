"""Ids that are derived from content: the same bytes and masks have the same ids everywhere."""

from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from segdex_core.masks import MaskRLE

_NAMESPACE = UUID("6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11")  # fixed for ever: ids are derived from it


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of ``data`` as 64 hexadecimal digits: the identity of a picture."""
    return sha256(data).hexdigest()


def make_image_id(digest: str) -> UUID:
    """Return the id of a picture: a UUIDv5 of the SHA-256 of its bytes."""
    return uuid5(_NAMESPACE, f"image:{digest}")


def make_segment_id(image_id: UUID, mask: "MaskRLE") -> UUID:
    """Return the id of a segment: a UUIDv5 of its picture and its mask.

    The same mask of the same picture always has the same id, so that ingesting twice overwrites.
    """
    height, width = mask.size_hw
    return uuid5(image_id, f"segment:{height}x{width}:{mask.counts}")
