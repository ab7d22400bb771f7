"""Decode damaged files in the pool of ``segdex_core.media``, and report the outcome of each."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
from tests.fuzz.bombs import bomb
from tests.fuzz.mutations import mutated
from tests.fuzz.seeds import found_files, made_files

from segdex_core.errors import ImageError
from segdex_core.media.pool import DecodePool
from segdex_core.media.worker_process import UNFORESEEN, DecodeLimits

LIMITS = DecodeLimits(processes=2, cpu_s=10, memory_mib=2_048, wall_s=600.0)
MAX_PIXELS = 20_000_000

_BOMB_EVERY = 100
_CHUNK = 200  # files in memory


@dataclass(slots=True)
class Report:
    """What became of the files.

    Attributes:
        outcomes: How many files ended in each outcome.
        ended: Names, bytes and messages of the files that ended their decoder; no fault of the run.
        faults: Names, bytes and messages of the files with no outcome, or with an error that no
            decoder should raise; each is a bug.
        peak_mib: Largest memory of a process that decoded, in MiB.
        slowest: Wall seconds and names of the slowest files.
        left: Processes that were still there after the end.
        elapsed_s: Wall seconds.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    ended: list[tuple[str, bytes, str]] = field(default_factory=list)
    faults: list[tuple[str, bytes, str]] = field(default_factory=list)
    peak_mib: int = 0
    slowest: list[tuple[float, str]] = field(default_factory=list)
    left: int = 0
    elapsed_s: float = 0.0

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        return [
            f"{sum(self.outcomes.values()):,} files in {self.elapsed_s:.0f} s",
            *(f"{count:>9,}  {outcome}" for outcome, count in sorted(self.outcomes.items())),
            f"{len(self.faults):>9,}  without an outcome",
            f"peak memory of a decoder: {self.peak_mib:,} MiB; processes left: {self.left}",
            "slowest: " + ", ".join(f"{name} {took_s:.1f} s" for took_s, name in self.slowest[:5]),
            *(f"ended its decoder: {name}: {message}" for name, _, message in self.ended),
            *(f"FAULT: {name}: {message}" for name, _, message in self.faults),
        ]


def files(first: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of damaged files; a number gives the same file each time.

    Args:
        first: Number of the first file.
        count: How many.
    """
    seeds = [*made_files(), *found_files()]
    others = [data for _, data in seeds]
    for number in range(first, first + count):
        random = Random(number)
        if number % _BOMB_EVERY == 0:
            name, data = bomb(random)
        else:
            name, data = random.choice(seeds)
            data = mutated(data, others, random)
        yield f"{number}-{name}", data


def fuzz(first: int, count: int, *, keep: Path | None = None) -> Report:
    """Decode damaged files and return what became of them.

    Args:
        first: Number of the first file.
        count: How many.
        keep: Folder for files that ended their decoder or have no outcome; None keeps none.
    """
    report, started = Report(), time.perf_counter()
    pool = DecodePool(LIMITS)

    def decode(file: tuple[str, bytes]) -> tuple[str, str, float]:
        name, data = file
        began = time.perf_counter()
        try:
            pixels = pool(data, name=name, max_pixels=MAX_PIXELS).pixels
        except ImageError as error:
            return type(error).__name__, str(error), time.perf_counter() - began
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            return "", f"{type(error).__name__}: {error}", time.perf_counter() - began
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            return "", f"pixels of the shape {pixels.shape}", time.perf_counter() - began
        return "decoded", "", time.perf_counter() - began

    with ThreadPoolExecutor(LIMITS.processes) as threads:
        remaining = files(first, count)
        while some := list(islice(remaining, _CHUNK)):
            for (name, data), found in zip(some, threads.map(decode, some), strict=True):
                _note(report, name, data, found)
            report.peak_mib = max(report.peak_mib, 0, *map(_peak_mib, pool.pids))
    pids = pool.pids
    pool.close()
    report.left = sum(Path(f"/proc/{pid}").exists() for pid in pids)
    report.elapsed_s = time.perf_counter() - started
    for name, data, _ in (*report.ended, *report.faults) if keep is not None else ():
        assert keep is not None
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{sha256(data).hexdigest()[:8]}-{Path(name).name}").write_bytes(data)
    return report


def _note(report: Report, name: str, data: bytes, found: tuple[str, str, float]) -> None:
    outcome, message, took_s = found
    report.slowest = sorted([*report.slowest, (took_s, name)], reverse=True)[:10]
    if not outcome or UNFORESEEN in message:
        report.faults.append((name, data, message))
        return
    if "SEGDEX_DECODE_CPU_S" in message or "SEGDEX_DECODE_WALL_S" in message:
        outcome += " (time)"
    elif "SEGDEX_DECODE_MEMORY_MIB" in message:
        outcome += " (memory)"
    elif "ended its decoder" in message:
        outcome += " (crash)"
        report.ended.append((name, data, message))
    report.outcomes[outcome] += 1


def _peak_mib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return int(status.split("VmHWM:")[1].split()[0]) >> 10 if "VmHWM:" in status else 0
