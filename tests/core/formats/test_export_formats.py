"""What all formats of exports have in common."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.formats.exported import MASKS, of_masks, written

from segdex_core.choices import ExportFormat
from segdex_core.formats.export import Dataset
from segdex_core.formats.registry import FORMATS
from segdex_core.masks import BoolMask
from segdex_core.wire.limits import ExportFormatName


def test_every_format_has_a_name() -> None:
    assert {*FORMATS, "zip"} == set(get_args(ExportFormatName))
    assert {*get_args(ExportFormatName), "parquet"} == set(get_args(ExportFormat))


@given(st.lists(MASKS, min_size=1, max_size=3), st.sampled_from(sorted(FORMATS)))
def test_equal_data_give_equal_bytes_from_any_iterable(masks: list[BoolMask], name: str) -> None:
    data = of_masks(masks)

    class Again:
        """Iterable once at a time, like a file."""

        def __iter__(self) -> object:
            return iter(list(data.images))

    first, loss = written(FORMATS[name].write, data)
    second, again = written(FORMATS[name].write, Dataset(Again(), data.categories))  # type: ignore[arg-type]
    assert (first, loss) == (second, again)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_format_with_one_document_writes_it_alone(name: str) -> None:
    form = FORMATS[name]
    files, _ = written(form.write, of_masks([]))

    assert not form.document or list(files) == [form.document]
    assert not any(file.startswith(f"{form.pictures}/") for file in files)
