"""``deploy/RELIABILITY.md`` says what the tests promise, and no more."""

import re
from pathlib import Path

from tests.needs import ROOT
from tests.promises import held_in, page_of

_MARK = re.compile(r'mark\.promise\(\s*"([^"]+)",\s*((?:"[^"]*"\s*)+),?\s*\)')

REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_one[x]"><properties>
<property name="subject" value="Index"/><property name="promise" value="Nothing is lost."/>
<property name="tried" value="1,200 kills"/><property name="lost" value="0"/></properties></testcase>
<testcase classname="tests.test_a" name="test_one[y]"><properties>
<property name="subject" value="Index"/><property name="promise" value="Nothing is lost."/>
<property name="tried" value="3 kills"/><property name="lost" value="1"/></properties>
<failure message="no"/></testcase>
<testcase classname="tests.test_a" name="test_two"><properties>
<property name="subject" value="Index"/><property name="promise" value="It waits"/></properties>
<skipped/></testcase>
<testcase classname="tests.test_a" name="test_other"/>
</testsuite></testsuites>"""


def test_the_page_sums_what_the_tests_of_a_promise_tried_and_shows_the_worst_result(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)

    rows = page_of(held_in(report)).splitlines()[-2:]

    assert rows == [
        "| It waits |  | 0 | not run | `tests/test_a.py::test_two` |",
        "| Nothing is lost | 1,203 kills | 1 | fails | `tests/test_a.py::test_one` |",
    ]


def test_the_page_has_the_promises_of_the_tests_and_all_of_them_hold() -> None:
    marked = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        for subject, text in _MARK.findall(file.read_text()):
            marked.add((subject, "".join(re.findall(r'"([^"]*)"', text)).rstrip(".")))
    page, subject = set(), ""
    for line in (ROOT / "deploy" / "RELIABILITY.md").read_text().splitlines():
        if line.startswith("## "):
            subject = line[3:]
        elif line.startswith("| ") and not line.startswith(("| promise", "| ---")):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert cells[3] == "holds", line
            page.add((subject, cells[0]))

    assert page == marked
