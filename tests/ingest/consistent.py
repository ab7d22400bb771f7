"""Whether everything that is stored of an index fits together, and how two indexes are compared."""

from collections import defaultdict
from collections.abc import Mapping
from uuid import UUID

from segdex_backends.index.layout import image_vector, real_names, segment_vector
from segdex_backends.index.payloads import fingerprint_from_payload, with_exact_floats
from segdex_backends.index.point_store import PointStore
from segdex_core.ids import make_segment_id
from segdex_core.ports.index import SegmentIndex
from segdex_core.sets import sets_by_member, sets_of

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
    """Assert that records, segments, masks and marks fit."""
    images = {one.image_id: one for one in index.scroll_images()}
    found = defaultdict(list)
    for segment in index.scroll_segments():
        found[segment.image_id].append(segment)
    assert found.keys() <= images.keys(), "segments without a record"
    sets = sets_by_member(index.members_of_images(list(images)))
    for key, image in images.items():
        assert image.pending is None, image
        assert len(found[key]) == image.segment_count, image
        for one in found[key]:
            assert one.segment_id == make_segment_id(key, one.mask)
            assert one.mask.size_hw == image.size_hw
            assert (one.sources, one.tags, one.captured_s) == (image.sources, image.tags, image.captured_s)
            assert set(one.ancestor_ids) <= {other.segment_id for other in found[key]}
            assert one.sets == sets_of(one, sets)
