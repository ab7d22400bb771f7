"""The pixels of a stored picture come from a file that still has the bytes that were ingested."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.backends.index.stored_samples import make_picture
from tests.fakes.dataset import png

from segdex_backends.sources.files import FileSource
from segdex_core.errors import ImageGoneError, ImageTooLargeError, ImageUnreadableError
from segdex_core.ids import make_image_id, sha256_hex
from segdex_core.media.decode import decode_image
from segdex_core.media.uris import canonical_uri
from segdex_core.records import ImageFile, ImageRecord, RGBImage
from segdex_ingest.again import read_again

INGESTED = png("red")


def record_of(*paths: Path) -> ImageRecord:
    """Return the record of a picture that was ingested from some files."""
    digest = sha256_hex(INGESTED)
    return replace(
        make_picture(0, 0).record,
        image_id=make_image_id(digest),
        sha256=digest,
        size_bytes=len(INGESTED),
        width=120,
        height=90,
        files=tuple(ImageFile(canonical_uri(path), 1) for path in paths),
    )


def read(record: ImageRecord) -> RGBImage:
    return read_again(record, source=FileSource(), max_pixels=10**6)


@pytest.mark.parametrize(
    "now",
    [png("blue"), INGESTED + b"\0", b"not a picture", None],
    ids=["repainted", "longer", "text", "gone"],
)
def test_a_file_that_changed_is_no_picture_of_the_index(tmp_path: Path, now: bytes | None) -> None:
    changed, kept = tmp_path / "a.png", tmp_path / "b.png"
    if now is not None:
        changed.write_bytes(now)
    kept.write_bytes(INGESTED)

    with pytest.raises(ImageGoneError, match=r"a\.png: (is gone|has changed since it was ingested)$"):
        read(record_of(changed))
    wanted = decode_image(INGESTED, name="red", max_pixels=10**6).pixels
    assert np.array_equal(read(record_of(changed, kept)), wanted)


def test_what_keeps_a_file_from_being_read_is_said_unless_another_file_helps(tmp_path: Path) -> None:
    denied, kept = tmp_path / "a.png", tmp_path / "b.png"
    for path in (denied, kept):
        path.write_bytes(INGESTED)

    class Denying(FileSource):
        def read(self, uri: str, *, max_bytes: int) -> bytes:
            if uri == canonical_uri(denied):
                raise ImageUnreadableError("a.png: permission denied")
            return super().read(uri, max_bytes=max_bytes)

    with pytest.raises(ImageUnreadableError, match="permission denied"):
        read_again(record_of(denied), source=Denying(), max_pixels=10**6)
    assert read_again(record_of(denied, kept), source=Denying(), max_pixels=10**6).shape == (90, 120, 3)
    with pytest.raises(ImageTooLargeError, match=r"a\.png"):
        read_again(record_of(denied), source=FileSource(), max_pixels=100)


def test_no_more_bytes_are_read_than_were_ingested(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(INGESTED)
    limits: list[int] = []

    class Recording(FileSource):
        def read(self, uri: str, *, max_bytes: int) -> bytes:
            limits.append(max_bytes)
            return super().read(uri, max_bytes=max_bytes)

    read_again(record_of(path), source=Recording(), max_pixels=10**6)

    assert limits == [len(INGESTED)]
