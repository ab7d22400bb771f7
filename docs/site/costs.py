"""The tables of docs/costs.md, from docs/costs.toml and a measurement: ``python -m docs.site.costs``."""

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from docs.site.markdown import code, table
from docs.site.staging import ROOT

PAGE = ROOT / "docs" / "costs.md"
DATA = ROOT / "docs" / "costs.toml"
MEASURED = ROOT / "tests" / "benchmarks" / "results" / "ingest.md"

_TABLES = re.compile(r"(<!-- (cpu|gpu): python -m docs\.site\.costs -->\n\n).*?(?=<!-- end -->)", re.S)


def with_tables(page: str) -> str:
    """Return the text of the page with the tables that the data give today."""
    data = tomllib.loads(DATA.read_text(encoding="utf-8"))
    tables = {"cpu": _cpu(data), "gpu": _gpu(data)}
    return _TABLES.sub(
        lambda found: "\n".join([found.group(1).rstrip(), "", *tables[found.group(2)], ""]), page
    )


def measured() -> Mapping[str, tuple[float, float]]:
    """Return seconds by the clock and of CPU of one picture for each variant that was measured."""
    rows = re.findall(
        r"^\| (\S+) \| \d+ \| \d+ \| \d+ \| ([\d.]+) \| ([\d.]+) \|",
        MEASURED.read_text(encoding="utf-8"),
        re.M,
    )
    return {variant: (float(wall_s), float(cpu_s)) for variant, wall_s, cpu_s in rows}


def _cpu(data: Mapping[str, Any]) -> list[str]:
    figures, pictures = measured(), data["pictures"]
    rows = []
    for case in data["cpu"]:
        wall_s, cpu_s = figures[case["variant"]]
        cells = (wall_s * pictures / 3600, cpu_s * pictures / 3600)
        euros = cells[1] * data["prices"]["eur_per_core_hour"]
        rows.append(
            (
                case["models"],
                code(case["quality"]),
                f"{cpu_s:.1f}",
                *(f"{_round(h):,}" for h in (*cells, euros)),
            )
        )
    head = ("models", "`--quality`", "CPU s per picture", "hours on two cores", "core hours", "euros")
    return table(head, rows)


def _gpu(data: Mapping[str, Any]) -> list[str]:
    gpu, pictures = data["gpu"], data["pictures"]
    rows = []
    for name, masks_s in zip(("fastest published code", "stock code"), gpu["masks_s"], strict=True):
        picture_s = masks_s + gpu["crops"] / gpu["crops_per_s"]
        hours = picture_s * pictures / 3600
        euros = hours * data["prices"]["eur_per_gpu_hour"]
        rows.append((name, f"{picture_s:.2f}", f"{_round(hours):,}", f"{_round(euros):,}"))
    return table(("masks by", "s per picture", "hours", "euros"), rows)


def _round(value: float) -> int:
    """Return a figure with two digits: a third one would be noise.

    Example:
        >>> _round(347.2), _round(8.63)
        (350, 9)
    """
    digits = max(len(str(int(value))) - 2, 0)
    return int(round(value, -digits))


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
