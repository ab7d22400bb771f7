"""Every figure that needs weights of the model hub, for the day that one is reachable: make hub-day.

Each step is a command of segdex, run in this process, with its JSON kept. A step whose models the hub does
not give is one line in the report, and the others go on. A second run repeats what has no figures yet of the
same arguments on the same machine.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.benchmarks.harness import describe_machine

from segdex.catalog import known_models
from segdex.cli.main import run
from segdex.parts import Parts
from segdex.wiring import DEFAULT_PROFILE, REAL, build_settings
from segdex_core.errors import SegdexError

UNREACHABLE = 3
"""Exit code of segdex where an index or a model is not usable."""

CLASSES: Mapping[str, Mapping[str, str]] = {
    "de": {"dog": "Hund", "cat": "Katze", "car": "Auto", "chair": "Stuhl", "bird": "Vogel", "boat": "Boot"},
    "es": {
        "dog": "perro",
        "cat": "gato",
        "car": "coche",
        "chair": "silla",
        "bird": "pájaro",
        "boat": "barco",
    },
    "ru": {
        "dog": "собака",
        "cat": "кошка",
        "car": "машина",
        "chair": "стул",
        "bird": "птица",
        "boat": "лодка",
    },
    "el": {
        "dog": "σκύλος",
        "cat": "γάτα",
        "car": "αυτοκίνητο",
        "chair": "καρέκλα",
        "bird": "πουλί",
        "boat": "βάρκα",
    },
    "ar": {"dog": "كلب", "cat": "قطة", "car": "سيارة", "chair": "كرسي", "bird": "طائر", "boat": "قارب"},
    "he": {"dog": "כלב", "cat": "חתול", "car": "מכונית", "chair": "כיסא", "bird": "ציפור", "boat": "סירה"},
    "hi": {"dog": "कुत्ता", "cat": "बिल्ली", "car": "कार", "chair": "कुर्सी", "bird": "पक्षी", "boat": "नाव"},
    "bn": {"dog": "কুকুর", "cat": "বিড়াল", "car": "গাড়ি", "chair": "চেয়ার", "bird": "পাখি", "boat": "নৌকা"},
    "th": {"dog": "สุนัข", "cat": "แมว", "car": "รถยนต์", "chair": "เก้าอี้", "bird": "นก", "boat": "เรือ"},
    "zh": {"dog": "狗", "cat": "猫", "car": "汽车", "chair": "椅子", "bird": "鸟", "boat": "船"},
    "ja": {"dog": "犬", "cat": "猫", "car": "自動車", "chair": "椅子", "bird": "鳥", "boat": "ボート"},
    "ko": {"dog": "개", "cat": "고양이", "car": "자동차", "chair": "의자", "bird": "새", "boat": "보트"},
}
"""Names of classes of COCO by language; ``eval search`` asks for them in place of the English ones."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command whose JSON is a figure.

    Attributes:
        name: In the report.
        arguments: Of ``segdex``, without ``--json``.
    """

    name: str
    arguments: tuple[str, ...]


TEXTS = Step("default embedder, texts", ())
"""What ``check_texts`` measures, without a command."""

Result = dict[str, Any]
"""Name, arguments and machine of a step with its ``figures``, or why it has none."""


def steps_of(data: Path, work: Path, *, limit: int, quality: str) -> Iterator[Step]:
    """Yield what is measured on a labelled set, the defaults first.

    Args:
        data: Folder with ``segments.jsonl`` and ``class_queries.jsonl``.
        work: Where the sets in other languages are written.
        limit: Pictures of each step.
        quality: Of the masks.
    """
    common = ("--limit", str(limit), "--quality", quality, "--profile", "default")
    yield Step("default models, search", ("eval", "search", str(data), *common))
    yield Step("default models, masks", ("eval", "masks", str(data), *common))
    yield Step("default models, refine", ("eval", "refine", str(data), *common))
    for language in ("en", *CLASSES):
        translated = write_translated(data, work / language, CLASSES.get(language, {}))
        index = f"edge:{work / 'index'}"  # one for all: the pictures are the same
        arguments = ("eval", "search", str(translated), *common, "--index", index)
        yield Step(f"default models, search in {language}", arguments)
    kinds = {"embedder": "search", "segmenter": "masks", "refiner": "refine"}
    of_hub = [entry for entry in known_models() if any(source.kind == "hub" for source in entry.sources)]
    for role, what in kinds.items():
        for name in (entry.name for entry in of_hub if entry.role == role):
            yield Step(f"{name}, {what}", ("eval", what, str(data), *common, f"--{role}", name))


def write_translated(data: Path, folder: Path, names: Mapping[str, str]) -> Path:
    """Write a labelled set with some classes under other names, and only queries for these; return it.

    Args:
        data: The set.
        folder: Where it is written; its pictures stay where they are.
        names: By English name; without any, the classes of ``CLASSES`` keep theirs.
    """
    names = names or {name: name for name in CLASSES["de"]}
    folder.mkdir(parents=True, exist_ok=True)
    images = folder / "images"
    if not images.is_symlink():
        images.symlink_to((data / "images").absolute())
    for file, key in (("segments.jsonl", "category"), ("class_queries.jsonl", "text")):
        rows = [json.loads(line) for line in (data / file).read_text().splitlines()]
        if file == "class_queries.jsonl":
            rows = [row for row in rows if row[key] in names]
        renamed = [row | {key: names.get(row.get(key), row.get(key))} for row in rows]
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in renamed))
    return folder


def check_texts(parts: Parts) -> dict[str, object]:
    """Return what can be said of the default embedder without a picture.

    ``casing`` and ``spaces`` are cosines that should be 1: a lower one means that texts are not read as the
    model was trained. ``languages`` has for each the share of names that are nearest to their English one.
    """
    embedder = parts.load_embedder(build_settings(profile="default"), DEFAULT_PROFILE)
    plain, capitals, spaces = embedder.embed_texts(
        ["a red umbrella", "A Red UMBRELLA", "  a red   umbrella "]
    )
    english = embedder.embed_texts(list(CLASSES["de"]))
    nearest = {}
    for language, names in CLASSES.items():
        found = (embedder.embed_texts(list(names.values())) @ english.T).argmax(axis=1)
        nearest[language] = float(np.mean(found == np.arange(len(names))))
    return {
        "embedder": embedder.fingerprint,
        "casing": round(float(plain @ capitals), 5),
        "spaces": round(float(plain @ spaces), 5),
        "languages": nearest,
    }


def measured(step: Step, parts: Parts) -> dict[str, object]:
    """Return the figures of a step, or ``unreachable`` or ``failed`` with the reason on one line."""
    out, err, start = StringIO(), StringIO(), time.perf_counter()
    with redirect_stdout(out), redirect_stderr(err):
        code = run([*step.arguments, "--json"], parts=parts)
    if code == 0:
        return {"figures": json.loads(out.getvalue()), "wall_s": round(time.perf_counter() - start, 1)}
    reason = (err.getvalue().strip().splitlines() or [f"exit code {code}"])[-1]
    return {"unreachable" if code == UNREACHABLE else "failed": reason}


def measured_texts(parts: Parts) -> dict[str, object]:
    """Return ``check_texts``, or why it has none."""
    try:
        return {"figures": check_texts(parts)}
    except SegdexError as error:
        return {"unreachable" if error.exit_code == UNREACHABLE else "failed": str(error)}


def this_machine() -> dict[str, object]:
    """Return what figures of a machine depend on for as long as it is the same one."""
    described = describe_machine()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": described["cpu"], "cores": described["cores"], "gpu": gpu}


def hub_day(
    steps: Iterable[Step],
    out: Path,
    *,
    parts: Parts = REAL,
    machine: Mapping[str, object] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Result]:
    """Run the steps, write ``OUT.json`` and ``OUT.md`` after each, and return the results by name.

    Args:
        steps: What to run. A step that has figures of the same arguments and machine in ``OUT.json`` is not
            run again.
        out: Path of both files without a suffix.
        parts: What opens the index and loads the models.
        machine: Tells this machine from others; None for ``this_machine``.
        say: Is told one line for each step.
    """
    machine = this_machine() if machine is None else machine
    file = out.with_suffix(".json")
    kept: list[Result] = json.loads(file.read_text())["results"] if file.is_file() else []
    results: dict[str, Result] = {}
    for step in (TEXTS, *steps):
        key = {"name": step.name, "arguments": list(step.arguments), "machine": dict(machine)}
        same = [result for result in kept if {name: result[name] for name in key} == key]
        if any("figures" in result for result in same):
            [results[step.name]] = same
            say(f"{step.name}: kept")
            continue
        result = key | (measured_texts(parts) if step is TEXTS else measured(step, parts))
        kept = [*(other for other in kept if other not in same), result]
        results[step.name] = result
        say(f"{step.name}: {summary(result)}")
        write_report(kept, out)
    return results


def summary(result: Mapping[str, Any]) -> str:
    """Return one line about a result."""
    for key, what in (("unreachable", "not reachable"), ("failed", "failed")):
        if key in result:
            return f"{what}: {result[key]}"
    shown = {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in result["figures"].items()
        if isinstance(value, float | int | str)
    }
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def write_report(results: Sequence[Result], out: Path) -> None:
    """Write the results as JSON and as a table."""
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {**describe_machine(), "results": results}
    out.with_suffix(".json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    rows = [
        f"| {result['name']} | {summary(result).replace('|', '/')} "
        f"| {', '.join(str(value) for value in result['machine'].values() if value)} |"
        for result in results
    ]
    lines = [
        "# Figures of models from the hub",
        "",
        "| what | figures | machine |",
        "| --- | --- | --- |",
        *rows,
    ]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run all steps; see the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of a labelled set, such as ../shared/data/coco")
    parser.add_argument("--work", type=Path, required=True, help="folder for what can be made again")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "hub_day")
    parser.add_argument("--limit", type=int, default=100, help="pictures of each step")
    parser.add_argument("--quality", default="balanced")
    options = parser.parse_args()
    steps = steps_of(options.data, options.work, limit=options.limit, quality=options.quality)
    hub_day(steps, options.out)


if __name__ == "__main__":
    main()
