"""Latency and recall of queries on large indexes of made-up segments: both indexes, filtered, many clients.

Filling is slow and may run at any time; asking is short and wants a machine that does nothing else. So these
are two steps, from the root of the repository::

    python -m tests.benchmarks.bench_search --fill FOLDER --segments 100000 --index server
    python -m tests.benchmarks.bench_search --ask FOLDER [FOLDER ...]

A fill that was stopped goes on where it was. The vectors are no pictures' but behave like them: some thousand
centres with noise, all of a decaying spectrum; a picture has 20 things of 5 nested segments each, and the two
views of a segment share most of it. ``--vectors random`` gives independent unit rows instead, the hardest
case for a graph, which no embedder makes. A query is drawn like a segment, and asks what ``segdex search``
asks: both views, ten pictures, three segments of each.

Recall is the share of the ten pictures, each with its best segment, that comparing with every vector finds.
"""

import argparse
import json
import string
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt
import psutil
from qdrant_edge import EdgeShard
from tests.backends.index.stored_samples import FINGERPRINT, FOLDERS, VIEWS, Picture, make_picture, unit_rows
from tests.benchmarks.harness import RESULTS, describe_machine
from tests.qdrant_server import QdrantServer, running_server

from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.layout import REAL_NAMES, SEGMENTS
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.index.server_connection import ServerConnection
from segdex_backends.index.server_store import ServerStore
from segdex_core.masks import MaskRLE
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import EmbeddedSegments, RGBImage, SegmentFilter, SegmentRecord, Vectors
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS
from segdex_search.answer import search
from segdex_search.calibrate import shipped_calibration
from segdex_search.queries import SearchQuery, TextTerm

_DIM = 512
_SEGMENTS_PER_PICTURE = 100
_THINGS_PER_PICTURE = 20
_CENTRES = 4000
_QUERIES = 200
_RECALL_QUERIES = 50  # the first of them are compared with brute force
_WARM_UP = 40
_LIMIT = 10
_CLIENTS = (1, 16)
_OBJECT_WEIGHT = shipped_calibration(FINGERPRINT.embedder).object_weight
_REPORT_EVERY = 100  # pictures

FILTERS = {
    "all": SegmentFilter(),
    # a third of the pictures, half of those, and the 60 % largest of their segments
    "one in ten": SegmentFilter(sources=(FOLDERS[0],), tags=("odd",), min_area_fraction=0.4),
}


@dataclass(frozen=True)
class Filled:
    """What lies in a folder; kept there as ``filled.json``."""

    index: str
    vectors: str
    segments: int
    upload_s: float = 0.0
    build_s: float = 0.0
    done: bool = False

    @classmethod
    def read(cls, folder: Path) -> "Filled":
        return cls(**json.loads((folder / "filled.json").read_text()))

    def write(self, folder: Path) -> None:
        (folder / "filled.json").write_text(json.dumps(asdict(self), indent=1) + "\n")


class Mixture:
    """Rows as an embedder makes them: centres and noise of a decaying spectrum, turned at random."""

    def __init__(self) -> None:
        rng = np.random.default_rng(7)
        self._spectrum = (1 + np.arange(_DIM, dtype=np.float32)) ** -0.5
        self._rotation = np.linalg.qr(rng.normal(size=(_DIM, _DIM)))[0].astype(np.float32)
        self._centres = self._noise(rng, _CENTRES)

    def segments(self, rng: np.random.Generator) -> dict[str, Vectors]:
        """Return the views of the segments of one picture."""
        nested = _SEGMENTS_PER_PICTURE // _THINGS_PER_PICTURE
        things = self._things(rng, _THINGS_PER_PICTURE).repeat(nested, axis=0)
        crop = _unit(0.9 * things + 0.45 * self._noise(rng, _SEGMENTS_PER_PICTURE))
        scene = self._noise(rng, 1)
        mask = _unit(0.8 * crop + 0.3 * scene + 0.45 * self._noise(rng, _SEGMENTS_PER_PICTURE))
        return {"crop": crop @ self._rotation, "mask": mask @ self._rotation}

    def query(self, rng: np.random.Generator) -> Vectors:
        """Return (1, dim): what a text is embedded as."""
        return self._things(rng, 1) @ self._rotation

    def _things(self, rng: np.random.Generator, count: int) -> Vectors:
        centres = self._centres[rng.integers(_CENTRES, size=count)]
        return _unit(0.8 * centres + 0.6 * self._noise(rng, count))

    def _noise(self, rng: np.random.Generator, count: int) -> Vectors:
        return _unit(rng.standard_normal((count, _DIM), np.float32) * self._spectrum)


class Random:
    """Independent unit rows."""

    def segments(self, rng: np.random.Generator) -> dict[str, Vectors]:
        return {view: unit_rows(rng, _SEGMENTS_PER_PICTURE, _DIM) for view in VIEWS}

    def query(self, rng: np.random.Generator) -> Vectors:
        return unit_rows(rng, 1, _DIM)


VECTORS: Mapping[str, type[Mixture] | type[Random]] = {"mixture": Mixture, "random": Random}


class QueryEmbedder:
    """Gives the text of a number the query of that number."""

    name = "made up"
    fingerprint = FINGERPRINT.embedder
    dim = _DIM

    def __init__(self, vectors: str) -> None:
        source = VECTORS[vectors]()
        self.rows = [source.query(np.random.default_rng((2, number))) for number in range(_QUERIES)]

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        raise NotImplementedError

    def relevance(self, image: RGBImage, texts: Vectors) -> Vectors:
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return np.concatenate([self.rows[int(text)] for text in texts])


class Truth:
    """The best segment of every picture for each query and filter, by brute force while filling."""

    def __init__(self, embedder: QueryEmbedder) -> None:
        self._rows = np.concatenate(embedder.rows[:_RECALL_QUERIES])
        self._best: dict[str, list[tuple[npt.NDArray[np.float32], list[UUID]]]] = {n: [] for n in FILTERS}

    def add(self, picture: Picture) -> None:
        """Look at the segments of one more picture."""
        views, records = picture.segments.vectors, picture.segments.records
        objects = np.array([[record.object_score] for record in records], np.float32)
        scores = _OBJECT_WEIGHT * objects + sum(
            DEFAULT_VIEW_WEIGHTS[view] * (views[view] @ self._rows.T) for view in VIEWS
        )
        for name, where in FILTERS.items():
            match = np.array([_matches(picture, n, where) for n in range(len(records))])
            if match.any():
                allowed = np.where(match[:, None], scores, -np.inf)
                ids = [records[row].segment_id for row in allowed.argmax(axis=0)]
                self._best[name].append((allowed.max(axis=0), ids))

    def write(self, folder: Path) -> None:
        """Write the ids of the best segments of the best pictures of each query as ``truth.json``."""
        found = {}
        for name, best in self._best.items():
            scores = np.array([row for row, _ in best])
            order = np.argsort(-scores, axis=0, kind="stable")[:_LIMIT]
            found[name] = [
                [str(best[place][1][query]) for place in order[:, query]] for query in range(_RECALL_QUERIES)
            ]
        (folder / "truth.json").write_text(json.dumps(found) + "\n")


def make_large_picture(number: int, source: Mixture | Random) -> Picture:
    """Return picture ``number`` with run-length codes as long as real ones, about 250 characters."""
    rng = np.random.default_rng((1, number))
    sample = make_picture(number, _SEGMENTS_PER_PICTURE, dim=1)
    nested = _SEGMENTS_PER_PICTURE // _THINGS_PER_PICTURE
    letters = np.array(list(string.ascii_letters))
    records: list[SegmentRecord] = []
    for n, record in enumerate(sample.segments.records):
        counts = f"{record.mask.counts}{''.join(rng.choice(letters, rng.integers(100, 400)))}"
        inside = records[n - n % nested : n][::-1]
        records.append(
            replace(
                record,
                mask=MaskRLE(size_hw=record.mask.size_hw, counts=counts),
                ancestor_ids=tuple(outer.segment_id for outer in inside),
            )
        )
    views = source.segments(rng)
    return Picture(sample.record, views["crop"][:1], EmbeddedSegments(records, views))


def fill(folder: Path, name: str, segments: int, vectors: str) -> None:
    """Write the pictures that are not there yet, build the graph, and note how long it took."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "filled.json").exists():
        Filled(index=name, vectors=vectors, segments=0).write(folder)
    filled = Filled.read(folder)
    source = VECTORS[filled.vectors]()
    truth = Truth(QueryEmbedder(filled.vectors))
    with opened(folder, filled.index, create=True) as (index, server):
        index.ensure(replace(FINGERPRINT, dim=_DIM))
        present = index.counts().images
        for number in range(segments // _SEGMENTS_PER_PICTURE):
            picture = make_large_picture(number, source)
            truth.add(picture)
            if number < present:
                continue
            started = time.perf_counter()
            index.upsert_segments(picture.segments)
            index.upsert_image(picture.record, picture.vector)
            filled = replace(
                filled,
                segments=(number + 1) * _SEGMENTS_PER_PICTURE,
                upload_s=filled.upload_s + time.perf_counter() - started,
            )
            if (number + 1) % _REPORT_EVERY == 0:
                filled.write(folder)
                rss_mib = psutil.Process(server.process.pid if server else None).memory_info().rss >> 20
                print(f"{filled.segments:,} written in {filled.upload_s:.0f} s, {rss_mib:,} MiB", flush=True)
        filled.write(folder)
        truth.write(folder)
        started = time.perf_counter()
        index.optimize()
        if server is not None:
            wait_until_built(server)
        replace(filled, build_s=filled.build_s + time.perf_counter() - started, done=True).write(folder)
    print(Filled.read(folder), flush=True)


@contextmanager
def opened(folder: Path, name: str, *, create: bool) -> Iterator[tuple[SegmentIndex, QdrantServer | None]]:
    """Open the index in a folder, with a server of its own if it is one."""
    if name == "edge":
        edge = QdrantIndex(EdgeStore(folder / "edge", create=create))
        try:
            yield edge, None
        finally:
            edge.close()
        return
    with running_server(folder / "server") as server:
        remote = QdrantIndex(ServerStore(ServerConnection(server.url, timeout_s=600), create=create))
        try:
            yield remote, server
        finally:
            remote.close()


def describe_server(server: QdrantServer) -> dict[str, object]:
    """Return what the server says about the collection of segments."""
    with urllib.request.urlopen(f"{server.url}/collections/segdex-segments", timeout=60) as answer:  # noqa: S310
        found: dict[str, object] = json.load(answer)["result"]
    return found


def wait_until_built(server: QdrantServer) -> None:
    """Wait until the server has nothing to optimize any more."""
    while (found := describe_server(server))["status"] != "green":
        print(f"{found['status']}: {found['indexed_vectors_count']} vectors in a graph", flush=True)
        time.sleep(10)


def latencies_ms(
    index: SegmentIndex, embedder: QueryEmbedder, where: SegmentFilter, *, clients: int
) -> list[float]:
    """Return the wall milliseconds of each query; the clients are threads of this process."""

    def ask(number: int) -> float:
        query = SearchQuery(terms=(TextTerm(str(number)),), where=where, limit=_LIMIT)
        started = time.perf_counter()
        search(query, index=index, embedder=embedder)
        return (time.perf_counter() - started) * 1000

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(_QUERIES - _WARM_UP, _QUERIES)))
        return list(pool.map(ask, range(_QUERIES)))


def recall(index: SegmentIndex, embedder: QueryEmbedder, name: str, folder: Path) -> float | None:
    """Return the share of the best segments of the ten best pictures that a search shows first."""
    if not (folder / "truth.json").exists():
        return None
    found = 0
    truth = json.loads((folder / "truth.json").read_text())[name]
    for number, wanted in enumerate(truth):
        query = SearchQuery(terms=(TextTerm(str(number)),), where=FILTERS[name], limit=_LIMIT)
        hits = search(query, index=index, embedder=embedder).hits
        found += len({str(hit.segments[0].record.segment_id) for hit in hits} & set(wanted))
    return found / sum(map(len, truth))


def ask(folder: Path) -> list[dict[str, object]]:
    """Return one row for each filter and number of clients."""
    filled = Filled.read(folder)
    embedder = QueryEmbedder(filled.vectors)
    rows: list[dict[str, object]] = []
    in_graph: object = _embedded_in_graph(folder) if filled.index == "edge" else None
    with opened(folder, filled.index, create=False) as (index, server):
        if server is not None:
            in_graph = describe_server(server)["indexed_vectors_count"]
        for name, where in FILTERS.items():
            share = recall(index, embedder, name, folder)
            for clients in _CLIENTS:
                started = time.perf_counter()
                took = latencies_ms(index, embedder, where, clients=clients)
                per_s = (_QUERIES + _WARM_UP) / (time.perf_counter() - started)
                p50, p95, p99 = (round(float(value), 2) for value in np.percentile(took, (50, 95, 99)))
                rss = psutil.Process(server.process.pid if server else None).memory_info().rss
                row = {
                    "index": filled.index,
                    "segments": index.counts().segments,
                    "vectors": filled.vectors,
                    "filter": name,
                    "clients": clients,
                    "p50_ms": p50,
                    "p95_ms": p95,
                    "p99_ms": p99,
                    "queries_per_s": round(per_s),
                    "recall": None if share is None else round(share, 3),
                    "in_graph": in_graph,
                    "rss_mib": rss >> 20,
                    "disk_mib": _size_bytes(folder) >> 20,
                    "upload_s": round(filled.upload_s),
                    "build_s": round(filled.build_s),
                }
                rows.append(row)
                print(row, flush=True)
    return rows


def write_results(rows: Sequence[Mapping[str, object]]) -> None:
    """Write the table as ``results/search.json`` and ``.md``."""
    machine = describe_machine()
    header = "| " + " | ".join(rows[0]) + " |\n" + "| --- " * len(rows[0]) + "|\n"
    body = "".join("| " + " | ".join(str(value) for value in row.values()) + " |\n" for row in rows)
    note = "; ".join(f"{key} {value}" for key, value in machine.items())
    RESULTS.mkdir(exist_ok=True)
    title = f"# Query latency: two views, {_LIMIT} pictures, grouped"
    (RESULTS / "search.md").write_text(f"{title}\n\n{header}{body}\n{note}.\n")
    (RESULTS / "search.json").write_text(json.dumps({"rows": rows, "machine": machine}, indent=1) + "\n")


def main() -> None:
    """Fill, or ask and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--fill", type=Path, metavar="FOLDER", help="write an index here, or go on with it")
    what.add_argument("--ask", type=Path, nargs="+", metavar="FOLDER", help="measure what is there")
    parser.add_argument("--segments", type=int, default=10_000)
    parser.add_argument("--index", choices=("edge", "server"), default="server")
    parser.add_argument("--vectors", choices=tuple(VECTORS), default="mixture")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    if arguments.fill:
        fill(arguments.fill, arguments.index, arguments.segments, arguments.vectors)
        return
    rows = [row for folder in arguments.ask for row in ask(folder)]
    if not arguments.no_write:
        write_results(rows)


def _unit(rows: Vectors) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _matches(picture: Picture, row: int, where: SegmentFilter) -> bool:
    record = picture.segments.records[row]
    return (
        (not where.sources or not set(where.sources).isdisjoint(record.sources))
        and set(where.tags) <= set(record.tags)
        and record.area_fraction >= (where.min_area_fraction or 0)
    )


def _embedded_in_graph(folder: Path) -> int:
    """Return how many vectors of an embedded index that nobody has open are in a graph."""
    shard = EdgeShard.load(str(folder / "edge" / REAL_NAMES[SEGMENTS]))
    try:
        return shard.info().indexed_vectors_count
    finally:
        shard.close()


def _size_bytes(folder: Path) -> int:
    return sum(file.lstat().st_blocks * 512 for file in folder.rglob("*"))


if __name__ == "__main__":
    main()
