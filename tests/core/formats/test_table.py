"""Tables of segments."""

import csv
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.formats.exported import annotation, dataset, image, ring, written

from segdex_core.formats.table import COLUMNS, csv_line, write_csv


def test_a_table_has_a_header_and_a_line_for_each_segment() -> None:
    one = annotation(ring(), category='a "b", c', labels=('a "b", c', "d"))
    files, loss = written(write_csv, dataset(image("größe.jpg", [one], (40, 50)), image("none.jpg", [])))

    text = files["segments.csv"].decode("utf-8")
    [row] = csv.DictReader(StringIO(text, newline=""))
    assert text.count("\r\n") == 2
    assert tuple(row) == COLUMNS
    assert (row["file_name"], row["category"], row["labels"]) == ("größe.jpg", 'a "b", c', 'a "b", c; d')
    assert [row[name] for name in ("x1", "y1", "x2", "y2", "area_px")] == ["10", "0", "50", "30", "920"]
    assert (row["score"], row["captured_at"]) == ("0.25", "1970-01-01T00:00:00Z")
    assert loss is None


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_text_is_taken_for_a_formula(text: str) -> None:
    [[cell, number]] = csv.reader(StringIO(csv_line((text, -1)).decode(), newline=""))

    assert (cell, number) == (f"'{text}", "-1")


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_any_text_is_read_back(texts: list[str]) -> None:
    [cells] = csv.reader(StringIO(csv_line((*texts, "end")).decode(), newline=""))

    assert [cell.removeprefix("'") for cell in cells[:-1]] == [text.removeprefix("'") for text in texts]
