"""The figures of an evaluation equal plain loops; intervals hold them; two runs are compared in pairs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segdex.evaluation.search_report import IMAGE_RANKS, QueryRecord, SearchReport, TextRecord
from segdex_core.errors import UsageError

SIZES = {"": (0, 10**9), "_small": (0, 32**2), "_medium": (32**2, 96**2), "_large": (96**2, 10**9)}


def random_query(rng: np.random.Generator, text: str, images: Sequence[str], skill: float) -> QueryRecord:
    """Return an answer that finds an instance with some probability at each of its places."""
    with_class = [name for name in images if rng.random() < 0.4] or [images[0]]
    instances = {name: int(rng.integers(1, 4)) for name in with_class}
    left = dict(instances)
    hits = []
    for name in rng.permutation(np.repeat(np.array(images), 3)).tolist():
        right = left.get(name, 0) > 0 and rng.random() < skill
        left[name] = left.get(name, 0) - right
        hits.append((name, bool(right)))
    return QueryRecord(
        text=text,
        is_known=bool(rng.random() < 0.5),
        instances=instances,
        hits=tuple(hits),
        pictures=tuple((name, name in instances) for name in rng.permutation(np.array(images)).tolist()),
        first_right={name: bool(rng.random() < skill) for name in with_class},
        largest_px={name: int(rng.choice([200, 1024, 5000, 9216, 90000])) for name in with_class},
        said_absent=bool(rng.random() < 0.3),
        said_absent_without=None if rng.random() < 0.2 else bool(rng.random() < 0.7),
        elapsed_ms=float(rng.random() * 50),
    )


def random_report(seed: int, *, images: int = 30, queries: int = 12, skill: float = 0.6) -> SearchReport:
    rng = np.random.default_rng(seed)
    names = [f"{number:03}.png" for number in range(images)]
    texts = [
        TextRecord(
            kind,
            str(rng.choice(names)),
            None if rng.random() < 0.2 else int(rng.integers(1, 15)),
            is_right=bool(rng.random() < 0.5) if kind == "ref" else None,
        )
        for kind in ("ref", "caption", "pair_text")
        for _ in range(20)
    ]
    return SearchReport(
        images=tuple(names),
        queries=tuple(random_query(rng, f"class {n:02}", names, skill) for n in range(queries)),
        texts=tuple(texts),
    )


def average_precision(one: QueryRecord) -> float:
    verdicts = [right for _, right in one.hits]
    total = 0.0
    for rank in range(1, len(verdicts) + 1):
        if verdicts[rank - 1]:
            total += sum(verdicts[:rank]) / rank
    return total / sum(one.instances.values())


def precision_at(one: QueryRecord, k: int) -> float:
    return sum(right for _, right in one.hits[:k]) / k


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def figures_by_loops(report: SearchReport) -> dict[str, float]:
    """Return the figures of the whole set, one record after the other."""
    figures = {
        "map": mean([average_precision(one) for one in report.queries]),
        "map_known": mean([average_precision(one) for one in report.queries if one.is_known]),
        "map_unknown": mean([average_precision(one) for one in report.queries if not one.is_known]),
        "p_at_1": mean([precision_at(one, 1) for one in report.queries]),
        "p_at_10": mean([precision_at(one, 10) for one in report.queries]),
        "absent_false": mean([one.said_absent for one in report.queries]),
        "absent_true": mean(
            [one.said_absent_without for one in report.queries if one.said_absent_without is not None]
        ),
    }
    for k in IMAGE_RANKS:
        figures[f"image_recall_{k}"] = mean(
            [any(has for _, has in one.pictures[:k]) for one in report.queries]
        )
    for suffix, (low, high) in SIZES.items():
        figures[f"right_in_picture{suffix}"] = mean(
            [
                right
                for one in report.queries
                for name, right in one.first_right.items()
                if low <= one.largest_px[name] < high
            ]
        )
    for kind in ("ref", "caption", "pair_text"):
        some = [one for one in report.texts if one.kind == kind]
        for k in IMAGE_RANKS:
            figures[f"{kind}_image_recall_{k}"] = mean(
                [one.rank is not None and one.rank <= k for one in some]
            )
    figures["ref_right_in_picture"] = mean([bool(one.is_right) for one in report.texts if one.kind == "ref"])
    return figures


@pytest.mark.parametrize("seed", range(12))
def test_every_figure_is_that_of_a_plain_loop_and_lies_in_its_interval(seed: int) -> None:
    report = random_report(seed)

    values = report.to_json()

    expected = figures_by_loops(report)
    assert set(values) == {
        *("images", "instances", "queries", "latency_p50_ms", "latency_p95_ms"),
        *(f"{name}{suffix}" for name in expected for suffix in ("", "_low", "_high")),
    }
    assert values["images"] == 30
    assert values["queries"] == 12
    assert values["instances"] == sum(sum(one.instances.values()) for one in report.queries)
    for name, figure in expected.items():
        low, high = values[f"{name}_low"], values[f"{name}_high"]
        assert values[name] == pytest.approx(figure, abs=6e-5), name  # rounded to four digits
        assert low is not None
        assert high is not None
        assert low <= figure + 6e-5, name
        assert high >= figure - 6e-5, name
    assert (values["map_low"] or 0) < (values["map_high"] or 0)


def test_of_more_pictures_the_interval_is_narrower() -> None:
    few, many = (random_report(3, images=images, queries=8).to_json() for images in (12, 192))

    def width(values: dict[str, int | float | None], name: str) -> float:
        return (values[f"{name}_high"] or 0) - (values[f"{name}_low"] or 0)

    for name in ("map", "right_in_picture"):
        assert 0 < width(many, name) < 0.6 * width(few, name)


def perfect(report: SearchReport) -> SearchReport:
    """Return the run that finds everything first."""
    queries = []
    for one in report.queries:
        right = [(name, True) for name, count in one.instances.items() for _ in range(count)]
        pictures = sorted(one.pictures, key=lambda picture: not picture[1])
        queries.append(
            replace(
                one,
                hits=(*right, *((name, False) for name, _ in one.hits)),
                pictures=tuple(pictures),
                first_right=dict.fromkeys(one.first_right, True),
            )
        )
    return replace(report, queries=tuple(queries))


def test_a_perfect_run_has_no_doubt_about_it() -> None:
    values = perfect(random_report(0)).to_json()

    for name in ("map", "p_at_1", "right_in_picture"):
        assert values[name] == values[f"{name}_low"] == values[f"{name}_high"] == 1


def test_a_sample_that_has_a_picture_twice_counts_it_twice() -> None:
    """Of two pictures, each found or not as a whole, a sample has none, one or both of them."""
    found, missed = (
        QueryRecord(
            text="dog",
            is_known=None,
            instances={"a": 1, "b": 1},
            hits=(("a", True), ("b", right)),
            pictures=(("a", True), ("b", True)),
            first_right={"a": True, "b": right},
            largest_px={"a": 2000, "b": 2000},
            said_absent=False,
            said_absent_without=None,
            elapsed_ms=1.0,
        )
        for right in (True, False)
    )

    [all_found, half] = [SearchReport(("a", "b"), (one,)).to_json() for one in (found, missed)]

    assert (all_found["map"], all_found["map_low"], all_found["map_high"]) == (1, 1, 1)
    assert (half["map"], half["map_low"], half["map_high"]) == (0.5, 0, 1)
    assert (half["right_in_picture"], half["right_in_picture_low"]) == (0.5, 0)
    assert "map_known" not in half
    assert "absent_true" not in half


@pytest.mark.parametrize("seed", range(3))
def test_a_run_gains_exactly_nothing_over_itself(seed: int) -> None:
    report = random_report(seed)

    gains = report.compare(report)

    assert set(gains) == {
        f"gain_{name}{suffix}" for name in figures_by_loops(report) for suffix in ("", "_low", "_high")
    }
    assert set(gains.values()) == {0}


def test_a_better_run_gains_and_a_worse_one_loses_as_much() -> None:
    report = random_report(1, skill=0.3)
    best = perfect(report)

    gains, losses = best.compare(report), report.compare(best)

    expected = 1 - figures_by_loops(report)["map"]
    assert gains["gain_map"] == pytest.approx(expected, abs=1e-4)
    assert (gains["gain_map_low"] or 0) > 0
    assert losses["gain_map"] == pytest.approx(-expected, abs=1e-4)
    assert losses["gain_map_high"] == pytest.approx(-(gains["gain_map_low"] or 0), abs=1e-3)


def test_the_interval_of_a_gain_is_narrower_than_those_of_the_runs() -> None:
    """The same pictures are hard in both runs, which is why samples are drawn in pairs."""
    report = random_report(2)
    [first, *others] = report.queries
    slightly = replace(report, queries=(perfect(replace(report, queries=(first,))).queries[0], *others))

    gains, values = slightly.compare(report), report.to_json()

    gain_width = (gains["gain_map_high"] or 0) - (gains["gain_map_low"] or 0)
    assert 0 < gain_width < 0.5 * ((values["map_high"] or 0) - (values["map_low"] or 0))


@pytest.mark.parametrize("seed", range(3))
def test_a_saved_run_is_loaded_as_it_was(tmp_path: Path, seed: int) -> None:
    report = random_report(seed)

    report.save(tmp_path / "run.json")

    assert SearchReport.load(tmp_path / "run.json") == report
    assert SearchReport.load(tmp_path / "run.json").to_json() == report.to_json()


def test_runs_over_other_pictures_or_names_cannot_be_compared() -> None:
    report = random_report(0)

    for other in (
        random_report(0, images=29),
        replace(report, queries=report.queries[1:]),
        replace(report, queries=(replace(report.queries[0], text="other"), *report.queries[1:])),
    ):
        with pytest.raises(UsageError, match="other pictures or asked other names"):
            report.compare(other)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "images": 3}'])
def test_a_file_that_is_no_run_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)

    with pytest.raises(UsageError, match="is no saved run of eval search") as caught:
        SearchReport.load(path)

    assert str(path) in str(caught.value)


def test_a_run_of_another_version_and_places_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    random_report(0).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))

    with pytest.raises(UsageError, match="another version of segdex"):
        SearchReport.load(path)
    with pytest.raises(UsageError, match="is no saved run"):
        SearchReport.load(tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match="cannot be written"):
        random_report(0).save(path / "below a file.json")
