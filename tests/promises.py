"""Write ``deploy/RELIABILITY.md`` from the results of the tests that are marked ``promise``.

    python -m tests.promises REPORT.xml > deploy/RELIABILITY.md

REPORT.xml is the JUnit report of pytest. A test has its promise in ``@pytest.mark.promise(subject, text)``,
and notes how hard it was tried with the fixture ``tried``.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

_HEAD = """# What segdex promises

Each row is held by a test. `make promises` runs the tests and writes this page from their results; nobody
edits it. "Tried" is the number of faults or inputs of that run, and "lost" is what did not survive them.
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A promise and the result of its test."""

    subject: str
    text: str
    test: str
    tried: str
    lost: int
    result: str


def held_in(report: Path) -> list[Held]:
    """Return the promises of a JUnit report, in order of subject and text."""
    found = []
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it
        said: dict[str, list[str]] = {}
        for one in case.iter("property"):
            said.setdefault(one.get("name", ""), []).append(one.get("value", ""))
        if "promise" not in said:
            continue
        failed = case.find("failure") is not None or case.find("error") is not None
        result = "**fails**" if failed else "not run" if case.find("skipped") is not None else "holds"
        module = case.get("classname", "").replace(".", "/")
        found.append(
            Held(
                subject=said["subject"][0],
                text=said["promise"][0],
                test=f"{module}.py::{case.get('name', '')}",
                tried=", ".join(said.get("tried", [])),
                lost=sum(map(int, said.get("lost", []))),
                result=result,
            )
        )
    return sorted(found, key=lambda one: (one.subject, one.text, one.test))


def page_of(promises: list[Held]) -> str:
    """Return the page as Markdown: a table for each subject, and a row for each promise and test."""
    parts = [_HEAD]
    for subject in dict.fromkeys(one.subject for one in promises):
        parts.append(
            f"\n## {subject}\n\n| promise | tried | lost | result | test |\n| --- | --- | --: | --- | --- |\n"
        )
        parts += [
            f"| {one.text} | {one.tried} | {one.lost} | {one.result} | `{one.test}` |\n"
            for one in promises
            if one.subject == subject
        ]
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page_of(held_in(Path(sys.argv[1]))))
