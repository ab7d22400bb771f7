"""Whether everything that is stored of an index fits together, and how two indexes are compared."""

from collections.abc import Mapping
from uuid import UUID

from segdex_backends.index.layout import image_vector, real_names, segment_vector
from segdex_backends.index.payloads import fingerprint_from_payload, with_exact_floats
from segdex_backends.index.point_store import PointStore
from segdex_backends.sources.files import FileSource
from segdex_core.ports.index import SegmentIndex
from segdex_ingest.doctor import examine

_LEGITIMATE = {"missing_file", "replaced_file", "leftover_collection", "unfinished_reembedding"}
_IGNORED = {"revision", "write", "labelling"}  # they count and name writes


def points_of(store: PointStore) -> Mapping[str, Mapping[UUID, object]]:
    """Return all points in use with vectors, but without what tells how often they were written.

    Args:
        store: Store of an index that is open.
    """
    description = store.description()
    if description is None:
        return {}
    known = fingerprint_from_payload(description, store.location)
    vectors = {"segments": segment_vector(known), "images": image_vector(known)}
    return {
        name: {
            point.id: (
                {
                    key: value
                    for key, value in with_exact_floats(point.payload).items()
                    if key not in _IGNORED
                },
                None if point.row is None else point.row.tobytes(),
            )
            for point in store.scroll(real_name, vector=vectors.get(name))
        }
        for name, real_name in real_names(description, store.location).items()
    }


def assert_consistent(index: SegmentIndex) -> None:
    """Assert that ``segdex doctor`` finds nothing but files that are gone and vectors not in use."""
    if index.fingerprint() is None:
        return
    found = examine(index, source=FileSource())
    assert [one for one in found if one.kind not in _LEGITIMATE] == []
