"""Latency, errors and memory of the HTTP service with real models, while an ingest job runs beside.

In two steps, from the root of the repository; the second wants a machine that does nothing else::

    segdex --profile offline --index edge:FILLED ingest PICTURES
    python -m tests.benchmarks.bench_service --fill FOLDER --from edge:FILLED --segments 100000
    python -m tests.benchmarks.bench_service --ask FOLDER --ingest OTHER_PICTURES [...]

The first copies a filled index many times over: pictures, masks and payloads are real, and the vectors of a
copy are the real ones with noise, so that scores and graph are those of a real collection. The second starts
``segdex serve`` on loopback and asks for ten pictures a question, no text twice, from one client and from
sixteen, in a process of its own on the same cores; without a job, then beside one. At last there are 10,000
requests for the memory.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http.client import HTTPConnection
from itertools import count
from pathlib import Path

import numpy as np
import psutil
from tests.benchmarks.harness import RESULTS, describe_machine

from segdex.wiring import build_settings, open_index
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.ids import make_image_id, make_segment_id
from segdex_core.records import EmbeddedSegments, SegmentFilter, Vectors

_PORT = 8640
_NOISE = 0.5
"""Length of the noise of a copy beside its vector: a cosine of .89 to it."""

_WORDS = [
    "cat",
    "dog",
    "car",
    "bus",
    "bottle",
    "chair",
    "pizza",
    "umbrella",
    "horse",
    "clock",
    "laptop",
    "bench",
    "bird",
    "apple",
    "sheep",
    "kite",
]
_COLOURS = ["red", "blue", "green", "white", "black", "small", "large", "old", "wooden", "shiny"]


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        beside: What else the service does.
        clients: How many ask at a time.
        requests: How many were answered.
        p50_ms, p95_ms, p99_ms: Wall milliseconds of an answer, at the client.
        per_s: Answers in a second.
        errors: Answers with another status than 200.
        rss_mib: Resident memory of the service at the end.
        ingested: Pictures that the job finished meanwhile.
    """

    beside: str
    clients: int
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    per_s: float
    errors: int
    rss_mib: int
    ingested: int


def fill(folder: Path, source: str, segments: int) -> None:
    """Copy an index until there are so many segments, and build the graph."""
    given = open_index(build_settings(index=source), create=False)
    made = QdrantIndex(EdgeStore(folder, create=True))
    fingerprint = given.fingerprint()
    assert fingerprint is not None
    made.ensure(fingerprint)
    images = list(given.scroll_images())
    done = made.counts().segments
    for copy in count():
        for image in images:
            records = list(given.scroll_segments(SegmentFilter(image_ids=(image.image_id,))))
            if not records:
                continue
            if made.counts().segments >= segments:
                print("building the graph", flush=True)
                started = time.perf_counter()
                made.optimize()
                made.close()
                given.close()
                print(f"{done:,} segments; graph {time.perf_counter() - started:.0f} s", flush=True)
                return
            rng = np.random.default_rng((copy, image.image_id.int % 2**32))
            sha256 = hashlib.sha256(f"{image.sha256} {copy}".encode()).hexdigest() if copy else image.sha256
            image_id = make_image_id(sha256)
            ids = {one.segment_id: make_segment_id(image_id, one.mask) for one in records}
            vectors = given.get_vectors(list(ids))
            wholes = given.get_image_vectors([image.image_id])
            copies = [
                replace(
                    one,
                    segment_id=ids[one.segment_id],
                    image_id=image_id,
                    ancestor_ids=tuple(ids[outer] for outer in one.ancestor_ids),
                )
                for one in records
            ]
            rows = {
                view: _noisy(np.array([vectors[one.segment_id][view] for one in records]), rng, copy)
                for view in fingerprint.views
            }
            made.upsert_segments(EmbeddedSegments(copies, rows))
            whole = _noisy(wholes[image.image_id][None], rng, copy)
            made.upsert_image(replace(image, image_id=image_id, sha256=sha256), whole)
            done += len(copies)


def _noisy(rows: Vectors, rng: np.random.Generator, copy: int) -> Vectors:
    if not copy:
        return rows.astype(np.float32)
    noise = rng.standard_normal(rows.shape).astype(np.float32)
    noise *= _NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
    rows = rows + noise
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@contextmanager
def service(folder: Path, ingest: Sequence[Path]) -> Iterator[psutil.Process]:
    """Start ``segdex serve``, wait until it can answer, and end it."""
    environment = {
        **os.environ,
        "SEGDEX_RATE_PER_MINUTE": "1000000",
        "SEGDEX_JOB_ROOTS": json.dumps([str(path.resolve()) for path in ingest]),
        "SEGDEX_JOBS_FILE": str(folder.parent / "jobs.sqlite"),
    }
    command = [
        str(Path(sys.executable).parent / "segdex"),
        "--profile",
        "offline",
        "--index",
        f"edge:{folder}",
    ]
    process = subprocess.Popen([*command, "serve", "--port", str(_PORT)], env=environment)
    try:
        while _ask("GET", "/readyz")[0] != 200:
            if process.poll() is not None:
                raise SystemExit("the service ended")
            time.sleep(0.5)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(120)


def _ask(method: str, path: str, body: object = None) -> tuple[int, object]:
    connection = HTTPConnection("127.0.0.1", _PORT, timeout=60)
    try:
        connection.request(
            method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        data = response.read()
        return response.status, json.loads(data) if response.status < 300 else None
    except ConnectionError:
        return 0, None
    finally:
        connection.close()


_NUMBERS = count()


def measure(beside: str, process: psutil.Process, *, clients: int, requests: int, job_id: str | None) -> Row:
    """Ask from several threads, each over one connection."""
    took: list[float] = []
    statuses: Counter[int] = Counter()

    def client(share: int) -> None:
        connection = HTTPConnection("127.0.0.1", _PORT, timeout=60)
        for _ in range(share):
            number = next(_NUMBERS)
            text = f"{_COLOURS[number // 16 % 10]} {_WORDS[number % 16]} {number}"
            started = time.perf_counter()
            connection.request(
                "POST", "/v1/search", json.dumps({"texts": [text]}), {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            response.read()
            took.append((time.perf_counter() - started) * 1000)
            statuses[response.status] += 1
        connection.close()

    done = _done(job_id)
    started = time.perf_counter()
    threads = [threading.Thread(target=client, args=(requests // clients,)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    per_s = len(took) / (time.perf_counter() - started)
    p50, p95, p99 = (round(float(value), 1) for value in np.percentile(took, (50, 95, 99)))
    row = Row(
        beside=beside,
        clients=clients,
        requests=len(took),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        per_s=round(per_s, 1),
        errors=sum(statuses.values()) - statuses[200],
        rss_mib=process.memory_info().rss >> 20,
        ingested=_done(job_id) - done,
    )
    print(row, flush=True)
    return row


def _done(job_id: str | None) -> int:
    if job_id is None:
        return 0
    _, job = _ask("GET", f"/v1/jobs/{job_id}")
    assert isinstance(job, dict)
    return int(job["done"])


def ask(folder: Path, ingest: Sequence[Path], *, soak: int) -> list[Row]:
    """Return the measurements, in the order of their rows."""
    with service(folder, ingest) as process:
        measure("warm up", process, clients=4, requests=200, job_id=None)
        rows = [
            measure("nothing", process, clients=n, requests=r, job_id=None) for n, r in ((1, 300), (16, 960))
        ]
        _, job = _ask("POST", "/v1/jobs", {"paths": [str(path.resolve()) for path in ingest]})
        assert isinstance(job, dict)
        while _done(job["id"]) < 2:
            time.sleep(0.5)
        for clients, requests in ((1, 400), (16, 1600), (1, 400), (16, 1600)):
            rows.append(measure("a job", process, clients=clients, requests=requests, job_id=job["id"]))
        rows.append(measure("a job, for memory", process, clients=16, requests=soak, job_id=job["id"]))
        _, job = _ask("GET", f"/v1/jobs/{job['id']}")
        assert isinstance(job, dict)
        print({key: job[key] for key in ("status", "total", "done", "counts", "files_per_s")})
    return rows


def write_results(rows: Sequence[Row], segments: int) -> None:
    """Write the table as ``results/service.json`` and ``.md``."""
    table = [asdict(row) for row in rows]
    machine = describe_machine()
    lines = [
        f"# `POST /v1/search` over HTTP, {segments:,} segments, embedded index, offline profile",
        "",
        "| " + " | ".join(table[0]) + " |",
        "| --- " * len(table[0]) + "|",
        *("| " + " | ".join(str(value) for value in row.values()) + " |" for row in table),
        "",
        "The clients run on the same cores. "
        + "; ".join(f"{key} {value}" for key, value in machine.items())
        + ".",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "service.md").write_text("\n".join(lines) + "\n")
    (RESULTS / "service.json").write_text(json.dumps({"rows": table, "machine": machine}, indent=1) + "\n")


def main() -> None:
    """Fill, or ask and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--fill", type=Path, metavar="FOLDER", help="make an index here, or go on with it")
    what.add_argument("--ask", type=Path, metavar="FOLDER", help="measure the service over it")
    parser.add_argument("--from", dest="source", help="the index to copy, edge:PATH")
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--ingest", type=Path, nargs="+", default=[], help="pictures for the job")
    parser.add_argument("--soak", type=int, default=10_000, help="requests for the memory")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    if arguments.fill:
        fill(arguments.fill, arguments.source, arguments.segments)
        return
    index = QdrantIndex(EdgeStore(arguments.ask, create=False))
    segments = index.counts().segments
    index.close()
    rows = ask(arguments.ask, arguments.ingest, soak=arguments.soak)
    if not arguments.no_write:
        write_results(rows, segments)


if __name__ == "__main__":
    main()
