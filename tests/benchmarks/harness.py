"""Timings that can be compared on a noisy machine: all variants in turn, round after round."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

_PACKAGES = ("numpy", "onnxruntime", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Timing:
    """What one variant took, per unit of work.

    Attributes:
        variant: Which.
        cpu_ms: Best CPU milliseconds of all rounds, all threads of the process.
        wall_ms: Best wall milliseconds.
    """

    variant: str
    cpu_ms: float
    wall_ms: float


def time_in_turn(variants: Mapping[str, Callable[[], object]], *, units: int, rounds: int) -> list[Timing]:
    """Return the best of several rounds, A B A B, after one round that is not timed.

    Args:
        variants: What to time; each call does ``units`` units of work.
        units: The figures are divided by this.
        rounds: How often each is called.
    """
    for run in variants.values():
        run()
    best = {name: (float("inf"), float("inf")) for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            best[name] = (min(best[name][0], cpu), min(best[name][1], wall))
    return [
        Timing(name, round(cpu / units * 1000, 2), round(wall / units * 1000, 2))
        for name, (cpu, wall) in best.items()
    ]


def write_results(name: str, title: str, timings: Sequence[Timing], *, unit: str) -> str:
    """Write ``results/NAME.json`` and ``.md`` with machine, versions and date, and return the Markdown."""
    context = describe_machine()
    RESULTS.mkdir(exist_ok=True)
    rows = [asdict(timing) for timing in timings]
    content = {"title": title, "unit": unit, "context": context, "timings": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    reference = timings[0].cpu_ms
    lines = [
        f"# {title}",
        "",
        f"| variant | CPU ms per {unit} | wall ms per {unit} | CPU, of the first |",
        "| --- | --- | --- | --- |",
        *(
            f"| {timing.variant} | {timing.cpu_ms} | {timing.wall_ms} | {timing.cpu_ms / reference:.2f} |"
            for timing in timings
        ),
        "",
        "; ".join(f"{key} {value}" for key, value in context.items()) + ".",
    ]
    text = "\n".join(lines) + "\n"
    (RESULTS / f"{name}.md").write_text(text)
    return text


def describe_machine() -> dict[str, object]:
    """Return what figures depend on: date, processor, load and versions."""
    return {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
