"""Latency of queries on indexes of made-up segments: embedded and server, plain, filtered, many clients.

Run it from the root of the repository, on a machine that does nothing else::

    python -m tests.benchmarks.bench_search --segments 10000 [100000 ...] --work FOLDER

The vectors are random unit rows of 512 numbers in two views, the hardest case for a graph. A query is what
``segdex search`` asks: both views, grouped by picture, twelve pictures of twelve segments from each, fused.
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.benchmarks.harness import RESULTS, describe_machine
from tests.core.index.stored_samples import FINGERPRINT, FOLDERS, make_picture, unit_rows
from tests.qdrant_server import running_server

from segdex.core.index.edge import EdgeIndex
from segdex.core.index.server import ServerIndex
from segdex.core.protocols import SegmentIndex
from segdex.core.records import RGBImage, SegmentFilter, Vectors
from segdex.search.queries import SearchQuery, TextTerm
from segdex.search.service import search

_DIM = 512
_SEGMENTS_PER_PICTURE = 100
_QUERIES = 200
_WARM_UP = 20
_FILTERS = {
    "all": SegmentFilter(),
    "filtered": SegmentFilter(sources=(FOLDERS[0],), min_area_fraction=0.01, tags=("cat",)),
}


class RandomEmbedder:
    """Gives every text a random direction, the same each time."""

    name = "random"
    fingerprint = FINGERPRINT.embedder
    dim = _DIM

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        rows = [unit_rows(np.random.default_rng(int(text)), 1, _DIM) for text in texts]
        return np.concatenate(rows)


def fill(index: SegmentIndex, segments: int) -> float:
    """Write the pictures, build the graph, and return the seconds that it took."""
    started = time.perf_counter()
    index.ensure(replace(FINGERPRINT, dim=_DIM))
    for number in range(segments // _SEGMENTS_PER_PICTURE):
        picture = make_picture(number, _SEGMENTS_PER_PICTURE, dim=_DIM)
        index.upsert_segments(picture.segments)
        index.upsert_image(picture.record, picture.vector)
    index.optimize()
    return time.perf_counter() - started


def latencies_ms(index: SegmentIndex, where: SegmentFilter, *, clients: int) -> list[float]:
    """Return the wall milliseconds of each query."""
    embedder = RandomEmbedder()

    def ask(number: int) -> float:
        query = SearchQuery(terms=(TextTerm(str(number)),), where=where)
        started = time.perf_counter()
        search(query, index=index, embedder=embedder)
        return (time.perf_counter() - started) * 1000

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(10**6, 10**6 + _WARM_UP)))
        return list(pool.map(ask, range(_QUERIES)))


def measure(index: SegmentIndex, name: str, segments: int, filled_s: float) -> list[dict[str, object]]:
    """Return one row for each filter and number of clients."""
    rows: list[dict[str, object]] = []
    for what, where in _FILTERS.items():
        for clients in (1, 16):
            took = latencies_ms(index, where, clients=clients)
            p50, p95, p99 = (round(float(value), 2) for value in np.percentile(took, (50, 95, 99)))
            rows.append(
                {
                    "index": name,
                    "segments": segments,
                    "query": what,
                    "clients": clients,
                    "p50_ms": p50,
                    "p95_ms": p95,
                    "p99_ms": p99,
                    "filled_s": round(filled_s, 1),
                }
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Fill, ask, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--work", type=Path, required=True, help="an empty folder on a fast disk")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for segments in arguments.segments:
        folder = arguments.work / str(segments)
        folder.mkdir(parents=True)
        edge = EdgeIndex(folder / "edge", create=True)
        rows += measure(edge, "edge", segments, fill(edge, segments))
        edge.close()
        with running_server(folder / "server") as server:
            remote = ServerIndex(server.url, timeout_s=600, create=True)
            rows += measure(remote, "server", segments, fill(remote, segments))
            remote.close()
        shutil.rmtree(folder)
    machine = describe_machine()
    header = "| " + " | ".join(rows[0]) + " |\n" + "| --- " * len(rows[0]) + "|\n"
    body = "".join("| " + " | ".join(str(value) for value in row.values()) + " |\n" for row in rows)
    note = "; ".join(f"{key} {value}" for key, value in machine.items())
    RESULTS.mkdir(exist_ok=True)
    text = f"# Query latency, two views, grouped by picture\n\n{header}{body}\n{note}.\n"
    (RESULTS / "search.md").write_text(text)
    (RESULTS / "search.json").write_text(json.dumps({"rows": rows, "machine": machine}, indent=1) + "\n")


if __name__ == "__main__":
    main()
