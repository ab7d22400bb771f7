"""Migrations from a schema version to the next, without segmenting or embedding again.

A migration makes new collections next to the collections in use and then switches to them. If the process
terminates meanwhile, the old index is intact. Payloads are changed as plain data, because the record classes
have the form of the newest schema.

Several processes may migrate an index on a server at once. They fill the same new collections with equal
points and never overwrite an existing point, so none of them undoes a write after the switch. Writes by an
older segdex during the migration are lost: stop its processes first.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice

from segdex_backends.index.conditions import Equals
from segdex_backends.index.layout import (
    COLLECTIONS_KEY,
    IMAGES,
    REAL_NAMES,
    SEGMENTS,
    SETS,
    collections,
    real_names,
)
from segdex_backends.index.payloads import (
    fingerprint_from_payload,
    fingerprint_to_payload,
    with_exact_floats,
)
from segdex_backends.index.point_store import CollectionSpec, PointStore, StoredPoint
from segdex_core.errors import SegmentIndexError
from segdex_core.records import SCHEMA_VERSION

_PAGE = 256
_Migration = Callable[[PointStore, Mapping[str, object], int], None]

logger = logging.getLogger(__name__)


def migrate(store: PointStore, *, page: int = _PAGE) -> Mapping[str, object] | None:
    """Migrate an index to ``SCHEMA_VERSION`` and return its description, or None if there is no index.

    Args:
        store: Store of the index.
        page: Number of points that are written at a time.

    Raises:
        IndexVersionError: If a newer segdex made the index, or one so old that it cannot be migrated.
        SegmentIndexError: If the migration fails. The next migration resumes it.
    """
    while (description := store.description()) is not None:
        version = fingerprint_from_payload(description, store.location).schema_version
        if version == SCHEMA_VERSION:
            break
        logger.warning("migrating %s from schema %d to %d", store.location, version, version + 1)
        store.claim()
        try:
            MIGRATIONS[version](store, description, page)
        except SegmentIndexError:
            now = store.description()
            if now is None or now.get("schema_version") == version:
                raise
            # another process was faster, and has already switched to the new collections
    return description


def _name_vectors_by_embedder(store: PointStore, description: Mapping[str, object], page: int) -> None:
    """Migrate 3 to 4: name vectors ``views`` and ``image`` after the embedder, and give images revision 1."""
    old = fingerprint_from_payload(description, store.location)
    sizes = collections(old)
    former = {  # without payload indexes, as these collections are removed
        SEGMENTS: CollectionSpec("views", sizes[SEGMENTS].size),
        IMAGES: CollectionSpec("image", sizes[IMAGES].size),
    }
    store.open(description, former)
    new = replace(old, schema_version=4)
    added: Mapping[str, Mapping[str, object]] = {SEGMENTS: {}, IMAGES: {"revision": 1}}
    for name, old_spec in former.items():
        real_name, spec = REAL_NAMES[name], collections(new)[name]
        store.create(real_name, spec)
        points = store.scroll(name, vector=old_spec.vector)
        while some := list(islice(points, page)):
            changed = [
                StoredPoint(
                    point.id,
                    {**with_exact_floats(point.payload), "schema_version": 4, **added[name]},
                    point.row,
                )
                for point in some
            ]
            store.upsert(real_name, changed, vector=spec.vector, over=_NOT_THERE)
        missing = store.count(name) - store.count(real_name)
        if missing > 0:
            raise SegmentIndexError(
                f"{store.location} cannot be migrated: {missing} points of {name} were not copied; try again"
            )
    names = {name: REAL_NAMES[name] for name in former}
    store.switch({**fingerprint_to_payload(new), COLLECTIONS_KEY: names})
    store.optimize()  # the copies have no graph yet


def _add_sets(store: PointStore, description: Mapping[str, object], page: int) -> None:
    """4 to 5: a collection for named sets. No stored point is touched: labels and marks may be absent."""
    del page
    old = fingerprint_from_payload(description, store.location)
    specs = collections(old)
    store.open(description, {name: specs[name] for name in (SEGMENTS, IMAGES)})
    store.create(REAL_NAMES[SETS], specs[SETS])
    names = {**real_names(description, store.location), SETS: REAL_NAMES[SETS]}
    new = fingerprint_to_payload(replace(old, schema_version=5))
    store.switch({**description, **new, COLLECTIONS_KEY: names})


MIGRATIONS: Mapping[int, _Migration] = {3: _name_vectors_by_embedder, 4: _add_sets}
"""Migrations by the schema version that they start from."""

_NOT_THERE = (Equals("schema_version", 3),)  # no point of a new collection meets it
