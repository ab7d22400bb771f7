"""Indexes as earlier versions of segdex wrote them, and everything that an index holds.

``data/schema_N_edge.tar.gz`` is the folder of an embedded index with ``stored_samples`` pictures 1 to 5,
optimized. That of schema 3 was written by the last segdex of that schema (3d5c261), that of schema 4 by
3ee42f8, which then searched it (``hits.json``).
"""

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import numpy as np
from qdrant_edge import EdgeShard, ScrollRequest
from tests.backends.index.stored_samples import (
    DIM,
    FINGERPRINT,
    VIEWS,
    Picture,
    make_picture,
    without_colours,
)

from segdex_backends.index.layout import image_vector, segment_vector
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import FusedSegment

_DATA = Path(__file__).parent / "data"

Points = dict[UUID, tuple[Mapping[str, object], dict[str, list[float]]]]
"""Payload and vectors by id."""


def stored_pictures() -> list[Picture]:
    """Return what the index holds: its segments are older than colours."""
    return [
        without_colours(make_picture(number, count))
        for number, count in ((1, 40), (2, 0), (3, 1), (4, 3), (5, 4))
    ]


def fill(index: SegmentIndex) -> None:
    """Put the same into another index."""
    index.ensure(FINGERPRINT)
    for picture in stored_pictures():
        index.upsert_segments(picture.segments)
        index.upsert_image(picture.record, picture.vector)


def found_in(index: SegmentIndex) -> list[FusedSegment]:
    """What a few queries find."""
    rng = np.random.default_rng(0)
    found: list[FusedSegment] = []
    for object_weight in (0.0, 0.2):
        queries = {view: rng.normal(size=DIM).astype(np.float32) for view in VIEWS}
        found += index.query_fused(
            queries, weights={"crop": 0.4, "mask": 0.6}, object_weight=object_weight, limit=20
        )
    return found


def unpack_edge(home: Path, *, schema: int = 3) -> list[tuple[str, float]]:
    """Put an embedded index into a folder that is not there yet.

    Returns:
        Key and score of each hit that its writer found, best first for each query; empty for schema 3.
    """
    part = home.with_suffix(".part")
    with tarfile.open(_DATA / f"schema_{schema}_edge.tar.gz") as archive:
        archive.extractall(part, filter="data")
    (part / "index").rename(home)
    hits = part / "hits.json"
    return [(key, score) for key, score in json.loads(hits.read_text())] if hits.exists() else []


def upload_server(url: str, prefix: str, home: Path, *, schema: int = 3) -> None:
    """Copy the embedded index to a server, into the collections that its schema had there."""
    from qdrant_client import QdrantClient, models

    unpack_edge(home, schema=schema)
    client = QdrantClient(url, check_compatibility=False)
    description = json.loads((home / "segdex.json").read_text())
    vectors = ("image", "views") if schema == 3 else (image_vector(FINGERPRINT), segment_vector(FINGERPRINT))
    for name, vector, size in zip(("images", "segments"), vectors, (12, 25), strict=True):
        real_name = description.get("collections", {}).get(name, name)
        params = models.VectorParams(size=size, distance=models.Distance.DOT)
        client.create_collection(f"{prefix}-{real_name}", {vector: params}, metadata={"segdex": description})
        points = [
            models.PointStruct(id=str(key), payload=dict(payload), vector=dict(rows))
            for key, (payload, rows) in shard_points(home / real_name).items()
        ]
        client.upsert(f"{prefix}-{real_name}", points)
        if real_name != name:
            alias = models.CreateAlias(collection_name=f"{prefix}-{real_name}", alias_name=f"{prefix}-{name}")
            client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    client.close()


def shard_points(folder: Path) -> Points:
    """Return every point of a shard of Qdrant Edge that nobody has open."""
    shard = EdgeShard.load(str(folder))
    try:
        found, _ = shard.scroll(ScrollRequest(limit=10_000, with_payload=True, with_vector=True))
        return {UUID(str(point.id)): (point.payload or {}, dict(point.vector)) for point in found}  # type: ignore[arg-type]
    finally:
        shard.close()


def edge_content(home: Path) -> dict[str, object]:
    """Return the description, the names of all files at the top, and every point of an embedded index."""
    description = json.loads((home / "segdex.json").read_text())
    return {
        "description": description,
        "files": sorted(file.name for file in home.iterdir()),
        "points": {name: shard_points(home / real) for name, real in description["collections"].items()},
    }


def server_collections(url: str, prefix: str) -> dict[str, int]:
    """Return the number of points of each collection of an index on a server, without the prefix."""
    from qdrant_client import QdrantClient

    client = QdrantClient(url, check_compatibility=False)
    names = sorted(one.name for one in client.get_collections().collections)
    found = {
        name.removeprefix(f"{prefix}-"): client.count(name).count for name in names if name.startswith(prefix)
    }
    client.close()
    return found


def server_content(url: str, prefix: str) -> dict[str, object]:
    """Return the description, the names of all collections, and every point of an index on a server."""
    from qdrant_client import QdrantClient

    client = QdrantClient(url, check_compatibility=False)
    points: dict[str, Points] = {}
    for name in ("segments", "images", "sets"):
        found, _ = client.scroll(f"{prefix}-{name}", limit=10_000, with_vectors=True)
        points[name] = {UUID(str(point.id)): (point.payload or {}, dict(point.vector)) for point in found}  # type: ignore[arg-type]
    metadata = client.get_collection(f"{prefix}-segments").config.metadata or {}
    named = client.get_collections().collections
    aliases = client.get_aliases().aliases
    client.close()
    return {
        "description": metadata["segdex"],
        "collections": sorted(one.name[len(prefix) :] for one in named if one.name.startswith(prefix)),
        "aliases": sorted(
            one.alias_name[len(prefix) :] for one in aliases if one.alias_name.startswith(prefix)
        ),
        "points": points,
    }
