"""Layout of an index in a ``PointStore``: its collections, their vectors, and their real names.

``segments`` has one point for each segment, and ``images`` (the ledger) has one point for each image.
``sets`` has one point for each named set and for each member of one; its points have no vectors. The
names refer to real collections, ``segments-4``, ``images-4`` and ``sets-5``, which the description of the
index lists under ``collections``. A new collection can therefore be filled next to the collection in use,
and replace it in one step. The segments and images of a re-embedding are in ``segments-4-KEY``
and ``images-4-KEY``, where KEY is a hash of the embedder and its views, with a 0 more each time that the
former ones were in use before.

A vector is named after embedder and views, such as ``0123456789ab-crop+mask`` and ``0123456789ab-image``, so
that vectors of another embedder can be added next to it.

Payloads have room for tracks and calibration: readers ignore unknown keys, and migrations keep them.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType

from segdex_backends.index.fusing import joined_size
from segdex_backends.index.payloads import FILTER_FIELDS, SET_FIELDS
from segdex_backends.index.point_store import CollectionSpec
from segdex_core.errors import SegmentIndexError
from segdex_core.records import IMAGE_VIEW, IndexFingerprint

SEGMENTS, IMAGES, SETS = "segments", "images", "sets"

REAL_NAMES: Mapping[str, str] = MappingProxyType({SEGMENTS: "segments-4", IMAGES: "images-4", SETS: "sets-5"})
"""Real names of the collections of a new or migrated index. The number is the schema that introduced them."""

COLLECTIONS_KEY = "collections"
"""Key of ``REAL_NAMES`` in the description; missing before schema 4, when the names were the real names."""


def real_names(description: Mapping[str, object], place: str) -> Mapping[str, str]:
    """Return the real names of the collections of the index at ``place``, by name.

    Raises:
        SegmentIndexError: If the description does not list them. Unlisted collections would be removed.
    """
    version = description.get("schema_version")
    if version == 3:
        return {SEGMENTS: SEGMENTS, IMAGES: IMAGES}
    needed = (SEGMENTS, IMAGES) if version == 4 else tuple(REAL_NAMES)
    found = description.get(COLLECTIONS_KEY)
    if not isinstance(found, Mapping) or any(
        str(found.get(name)).partition("-")[0] != name for name in needed
    ):
        raise SegmentIndexError(
            f"the description of {place} is damaged, restore it or ingest into a new --index: "
            f"{COLLECTIONS_KEY!r} must say where {', '.join(needed)} are, but is {found!r}"
        )
    return {str(name): str(real) for name, real in found.items()}


def is_collection(real_name: str) -> bool:
    """Return whether a real name is that of a current or former collection of an index."""
    return re.split("[-.]", real_name)[0] in REAL_NAMES  # an embedded index has names with suffixes too


EMBEDDED = (SEGMENTS, IMAGES)
"""Names of the collections with vectors of an embedder, which a re-embedding replaces."""


def names_beside(in_use: Mapping[str, str], key: str) -> Mapping[str, str]:
    """Return the real names of an index whose re-embedding has a key, by name.

    Args:
        in_use: Real names of the collections in use, by name.
        key: Hexadecimal digits, a hash of the embedder and its views.
    """
    return {**in_use, **{name: f"{REAL_NAMES[name]}-{key}" for name in EMBEDDED}}


def is_of_this_schema(real_name: str) -> bool:
    """Return whether a real name is one of ``REAL_NAMES`` or the name of a re-embedding.

    The whole name is compared, so collections of another index on the same server do not match.
    """
    return _OF_THIS_SCHEMA.fullmatch(real_name) is not None


_OF_THIS_SCHEMA = re.compile("|".join(f"{name}(-[0-9a-f]+)?" for name in REAL_NAMES.values()))


def segment_vector(fingerprint: IndexFingerprint) -> str:
    """Return the name of the vector of a segment: the concatenated views and the object score."""
    return f"{_embedder_key(fingerprint)}-{'+'.join(fingerprint.views)}"


def image_vector(fingerprint: IndexFingerprint) -> str:
    """Return the name of the vector of a whole image."""
    return f"{_embedder_key(fingerprint)}-{IMAGE_VIEW}"


def collections(fingerprint: IndexFingerprint) -> Mapping[str, CollectionSpec]:
    """Return the specifications of the collections of an index, by name."""
    return {
        SEGMENTS: CollectionSpec(
            segment_vector(fingerprint), joined_size(fingerprint), fields=FILTER_FIELDS, is_large=True
        ),
        IMAGES: CollectionSpec(image_vector(fingerprint), fingerprint.dim),
        SETS: CollectionSpec("none", 1, fields=SET_FIELDS),
    }


def _embedder_key(fingerprint: IndexFingerprint) -> str:
    return sha256(fingerprint.embedder.encode()).hexdigest()[:12]
