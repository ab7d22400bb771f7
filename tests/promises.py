"""Write ``deploy/RELIABILITY.md`` from the results of the tests that are marked ``promise``.

    python -m tests.promises REPORT.xml... > deploy/RELIABILITY.md

A REPORT.xml is the JUnit report of a run of pytest; of a test in several reports, the last one counts. A
test has its promise in ``@pytest.mark.promise(subject, text)``, and notes how hard it was tried with the
fixture ``tried``.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

_HEAD = """# What segdex promises

Each row is held by the tests that it names. `make promises` runs them and writes this page from their
results; nobody edits it. "Tried" is the number of faults or inputs of that run, and "lost" is what did not
survive them.
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A promise and the result of one test.

    Attributes:
        subject: What it is about, such as ``Index``.
        text: The promise.
        test: File and name of the test with its parameters.
        tried: Numbers of faults or inputs by what they are.
        lost: How many things did not survive.
        result: ``holds``, ``fails`` or ``not run``.
    """

    subject: str
    text: str
    test: str
    tried: Counter[str]
    lost: int
    result: str


def held_in(report: Path) -> list[Held]:
    """Return the promises of a JUnit report."""
    found = []
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it
        said: dict[str, list[str]] = {}
        for one in case.iter("property"):
            said.setdefault(one.get("name", ""), []).append(one.get("value", ""))
        if "promise" not in said:
            continue
        failed = case.find("failure") is not None or case.find("error") is not None
        tried: Counter[str] = Counter()
        for each in said.get("tried", []):
            count, _, what = each.partition(" ")
            tried[what] += int(count.replace(",", ""))
        module = case.get("classname", "").replace(".", "/")
        found.append(
            Held(
                subject=said["subject"][0],
                text=said["promise"][0].rstrip("."),
                test=f"{module}.py::{case.get('name', '')}",
                tried=tried,
                lost=sum(map(int, said.get("lost", []))),
                result="fails" if failed else "not run" if case.find("skipped") is not None else "holds",
            )
        )
    return found


def page_of(promises: Iterable[Held]) -> str:
    """Return the page as Markdown: a table for each subject, and a row for each promise.

    A promise holds if each of its tests holds.
    """
    last = {one.test: one for one in promises}
    by_promise: dict[tuple[str, str], list[Held]] = {}
    for one in sorted(last.values(), key=lambda one: (one.subject, one.text, one.test)):
        by_promise.setdefault((one.subject, one.text), []).append(one)
    parts = [_HEAD]
    former = None
    for (subject, text), held in by_promise.items():
        if subject != former:
            parts.append(
                f"\n## {subject}\n\n| promise | tried | lost | result | tests |\n"
                "| --- | --- | --: | --- | --- |\n"
            )
            former = subject
        tried = sum((one.tried for one in held), Counter[str]())
        results = {one.result for one in held}
        result = next(name for name in ("fails", "not run", "holds") if name in results)
        tests = dict.fromkeys(one.test.partition("[")[0] for one in held)
        parts.append(
            f"| {text} | {', '.join(f'{count:,} {what}' for what, count in tried.items())} "
            f"| {sum(one.lost for one in held)} | {result} "
            f"| {', '.join(f'`{test}`' for test in tests)} |\n"
        )
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page_of(one for report in sys.argv[1:] for one in held_in(Path(report))))
