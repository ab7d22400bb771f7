"""How an index lies in a ``PointStore``: its two collections, their vectors, and where they really are.

``segments`` has one point for each segment, ``images`` one for each picture: the ledger. These names stand
for real collections, ``segments-4`` and ``images-4``, that the description of the index lists under
``collections``. So a collection can be made anew beside the one in use, and be switched to at once.

A vector is named by embedder and views, ``0123456789ab-crop+mask`` and ``0123456789ab-image``, so that those
of another embedder can be filled beside it.

Tracks, labels and calibration have room in the payloads: readers ignore keys that they do not know, and
migrations keep them.
"""

from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType

from segdex_backends.index.fusing import joined_size
from segdex_backends.index.payloads import FILTER_FIELDS
from segdex_backends.index.point_store import CollectionSpec
from segdex_core.errors import SegmentIndexError
from segdex_core.records import IMAGE_VIEW, IndexFingerprint

SEGMENTS, IMAGES = "segments", "images"

REAL_NAMES: Mapping[str, str] = MappingProxyType({SEGMENTS: "segments-4", IMAGES: "images-4"})
"""Where a new or migrated index has its collections. The number is that of the schema that introduced
them."""

COLLECTIONS_KEY = "collections"
"""Key of the description that holds ``REAL_NAMES``; absent before schema 4, when names were not apart."""


def real_names(description: Mapping[str, object], place: str) -> Mapping[str, str]:
    """Return by name where the collections of the index at ``place`` are.

    Raises:
        SegmentIndexError: If the description does not say it; collections that it does not name are removed.
    """
    if description.get("schema_version") == 3:
        return {SEGMENTS: SEGMENTS, IMAGES: IMAGES}
    found = description.get(COLLECTIONS_KEY)
    if not isinstance(found, Mapping) or any(
        str(found.get(name)).partition("-")[0] != name for name in REAL_NAMES
    ):
        raise SegmentIndexError(
            f"the description of {place} is damaged, restore it or ingest into a new --index: "
            f"{COLLECTIONS_KEY!r} must say where {SEGMENTS} and {IMAGES} are, but is {found!r}"
        )
    return {str(name): str(real) for name, real in found.items()}


def is_collection(real_name: str) -> bool:
    """Return whether an index has, or has had, a collection of this real name."""
    return real_name.partition("-")[0] in REAL_NAMES


def segment_vector(fingerprint: IndexFingerprint) -> str:
    """Return the name of the vector of a segment: its views side by side, and the object score."""
    return f"{_embedder_key(fingerprint)}-{'+'.join(fingerprint.views)}"


def image_vector(fingerprint: IndexFingerprint) -> str:
    """Return the name of the vector of a whole picture."""
    return f"{_embedder_key(fingerprint)}-{IMAGE_VIEW}"


def collections(fingerprint: IndexFingerprint) -> Mapping[str, CollectionSpec]:
    """Return by name what the collections of an index hold."""
    return {
        SEGMENTS: CollectionSpec(
            segment_vector(fingerprint), joined_size(fingerprint), fields=FILTER_FIELDS, is_large=True
        ),
        IMAGES: CollectionSpec(image_vector(fingerprint), fingerprint.dim),
    }


def _embedder_key(fingerprint: IndexFingerprint) -> str:
    return sha256(fingerprint.embedder.encode()).hexdigest()[:12]
