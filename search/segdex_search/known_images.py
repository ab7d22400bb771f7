"""Which image of the index a picture of another tool's document is."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from segdex_core.formats.imported import ImportedImage
from segdex_core.ids import make_image_id
from segdex_core.media.uris import uri_to_path
from segdex_core.ports.index import IndexReader
from segdex_core.records import ImageRecord
from segdex_core.slices import slices

_IDS_AT_ONCE = 1_000

Known = ImageRecord | str
"""An image of the index, or why a picture is none."""


def find_images(index: IndexReader, pictures: Sequence[ImportedImage]) -> list[Known]:
    """Return the image of each picture, or why there is none: nothing is guessed.

    A picture is found by the content of its file or its id, else by the segments that its annotations were
    exported from, else by its path: the image whose path ends like it. Of several such images, the one whose
    path has most folders in common is meant; if that is several too, the picture is ambiguous.

    Args:
        index: Where the images are.
        pictures: Pictures of a document.
    """
    ids = [_id_of(one) for one in pictures]
    images = _images(index, {image_id for image_id in ids if image_id is not None})
    by_segment = _by_segments(
        index, [one for one, image_id in zip(pictures, ids, strict=True) if image_id is None]
    )
    found: list[Known | None] = []
    for one, image_id in zip(pictures, ids, strict=True):
        if image_id is not None:
            found.append(images.get(image_id, "no picture of the index has this content"))
        else:
            found.append(by_segment.get(id(one)))
    left = [place for place, known in enumerate(found) if known is None]
    by_path = _by_path(index.scroll_images() if left else (), [pictures[place] for place in left])
    for place, known in zip(left, by_path, strict=True):
        found[place] = known
    return [_of_size(known, one) for known, one in zip(found, pictures, strict=True) if known is not None]


def _id_of(picture: ImportedImage) -> UUID | None:
    return picture.image_id if picture.sha256 is None else make_image_id(picture.sha256)


def _images(index: IndexReader, ids: Iterable[UUID]) -> dict[UUID, ImageRecord]:
    found = (one for some in slices(list(ids), _IDS_AT_ONCE) for one in index.get_images(some))
    return {one.image_id: one for one in found if one.is_shown}


def _by_segments(index: IndexReader, pictures: Sequence[ImportedImage]) -> Mapping[int, ImageRecord]:
    """Return images by the identity of a picture, where all segments that it names are of one image."""
    named = {id(one): {each.segment_id for each in one.annotations if each.segment_id} for one in pictures}
    wanted = list({segment_id for some in named.values() for segment_id in some})
    of_segment = {
        record.segment_id: record.image_id
        for some in slices(wanted, _IDS_AT_ONCE)
        for record in index.get_segments(some)
    }
    meant = {key: {of_segment[one] for one in some if one in of_segment} for key, some in named.items()}
    images = _images(index, {image_id for some in meant.values() for image_id in some})
    return {
        key: images[next(iter(some))]
        for key, some in meant.items()
        if len(some) == 1 and next(iter(some)) in images
    }


def _by_path(images: Iterable[ImageRecord], pictures: Sequence[ImportedImage]) -> list[Known]:
    paths = [_parts(one.uri or one.name) for one in pictures]
    wanted: dict[str, list[int]] = {}
    for place, parts in enumerate(paths):
        wanted.setdefault(parts[-1], []).append(place)
    best: list[tuple[int, dict[UUID, ImageRecord]]] = [(0, {}) for _ in pictures]
    for image in images:
        if not image.is_shown:
            continue
        for parts in {_parts(file.uri) for file in image.files}:
            for place in wanted.get(parts[-1], ()):
                shared = _shared(parts, paths[place])
                if shared > best[place][0]:
                    best[place] = (shared, {})
                if shared == best[place][0]:
                    best[place][1][image.image_id] = image
    found: list[Known] = []
    for _, candidates in best:
        if len(candidates) == 1:
            found.append(next(iter(candidates.values())))
        elif candidates:
            found.append(f"{len(candidates)} pictures of the index have paths that end like this")
        else:
            found.append("no picture of the index has this name")
    return found


def _parts(path: str) -> tuple[str, ...]:
    """Return the folders and the name of a path or URI, composed: two spellings of a name are equal."""
    if path.startswith("file:"):
        path = str(uri_to_path(path))
    composed = unicodedata.normalize("NFC", path).replace("\\", "/")
    return tuple(part for part in composed.split("/") if part not in {"", "."}) or ("",)


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many last parts of two paths are equal."""
    count = 0
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _of_size(known: Known, picture: ImportedImage) -> Known:
    given_hw = picture.size_hw
    if isinstance(known, str) or given_hw is None or given_hw == known.size_hw:
        return known
    return (
        f"it has {given_hw[1]} x {given_hw[0]} pixels in the document, but {known.width} x {known.height} in "
        "the index"
    )
