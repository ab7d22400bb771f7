"""Load a data set in one of two formats: JSON lines in a folder, or COCO JSON."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from pycocotools import mask as coco_mask
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segdex.evaluation.dataset import (
    Caption,
    ClassQuery,
    EvalDataset,
    EvalImage,
    EvalInstance,
    Pair,
    RefQuery,
    labels_of,
)
from segdex_core.errors import UsageError
from segdex_core.masks import MaskRLE, decode_mask, rle_area_px
from segdex_core.media.decode import read_image_file

SEGMENTS_FILE = "segments.jsonl"
CLASS_QUERIES_FILE = "class_queries.jsonl"
REFS_FILE = "refs.jsonl"
CAPTIONS_FILE = "captions.jsonl"
PAIRS_FILE = "pairs.jsonl"

_DEFAULT_SOURCE_NAME = "annotations"  # source of lines that name none


class _Row(BaseModel):
    # Ids are often numbers; other programs may use further keys.
    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True, extra="ignore")


class _Rle(_Row):
    size: tuple[int, int]
    counts: str | list[int]


class _SegmentRow(_Row):
    image: str
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    instance_id: str
    category: str | None = None
    rle: _Rle
    source: str = _DEFAULT_SOURCE_NAME
    iscrowd: bool = False
    isthing: bool = True


class _ClassQueryRow(_Row):
    image: str
    text: str
    instance_ids: tuple[str, ...] = Field(min_length=1)


class _RefRow(_Row):
    image: str
    text: str
    instance_id: str | None = None
    absent: bool = False


class _CaptionRow(_Row):
    image: str
    text: str


class _PairRow(_Row):
    image: str
    query_image: str
    text: str


class _CocoImage(_Row):
    id: str
    file_name: str
    width: int = Field(ge=1)
    height: int = Field(ge=1)


class _CocoAnnotation(_Row):
    id: str
    image_id: str
    category_id: str
    segmentation: list[list[float]] | _Rle = []
    iscrowd: bool = False


class _CocoCategory(_Row):
    id: str
    name: str


class _CocoFile(_Row):
    images: list[_CocoImage]
    annotations: list[_CocoAnnotation]
    categories: list[_CocoCategory]


_AnyRow = TypeVar("_AnyRow", bound=_Row)


@dataclass(slots=True)
class _ImageBuilder:
    size_hw: tuple[int, int]
    instances: dict[str, EvalInstance] = field(default_factory=dict)
    crowds: dict[str, EvalInstance] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)

    def build(self, path: Path, name: str) -> EvalImage:
        return EvalImage(
            path=path,
            name=name,
            size_hw=self.size_hw,
            instances=tuple(self.instances.values()),
            crowds=tuple(self.crowds.values()),
            sources=tuple(sorted(self.sources)),
        )


def load_dataset(path: Path, *, image_folder: Path | None = None) -> EvalDataset:
    """Load a data set with all its sources; crowds are separate from instances.

    Args:
        path: A folder with ``segments.jsonl`` (each line has ``image``, a path in the folder, ``width``,
            ``height``, ``instance_id``, ``category``, ``rle`` and ``source``) and optionally
            ``class_queries.jsonl`` (``image``, ``text``, ``instance_ids``), ``refs.jsonl`` (``image``,
            ``text``, ``instance_id``, ``absent``) and ``captions.jsonl`` (``image``, ``text``); a folder with
            ``pairs.jsonl`` only (``image``, ``query_image``, ``text``); or a COCO JSON file with ``images``,
            ``annotations`` and ``categories``, whose name is the name of the source.
        image_folder: Folder of the images, if they are not at a usual place: inside the folder, or for a JSON
            file beside it, in ``images/`` beside it or above it, or where COCO's own archives put them
            (``annotations/instances_val2017.json`` and ``val2017/``).

    Raises:
        UsageError: If the data set does not exist, has another format, or images are missing.
    """
    if path.is_dir():
        dataset = _read_jsonl_folder(path, image_folder=image_folder or path)
    elif path.is_file():
        dataset = _read_coco_json(path, image_folder=image_folder)
    else:
        raise UsageError(f"{path} does not exist; name a folder with segments.jsonl, or a COCO JSON file")
    if not dataset.pairs and not any(image.instances for image in dataset.images):
        raise UsageError(f"{path} has no masks to compare with")
    absent = [image.path for image in dataset.images if not image.path.is_file()]
    if absent:
        raise UsageError(
            f"{len(absent):,} of the {len(dataset.images):,} pictures of {path} are missing, the first is "
            f"{absent[0]}; name their folder with --images"
        )
    return dataset


def _read_jsonl_folder(folder: Path, *, image_folder: Path) -> EvalDataset:
    """Read ``segments.jsonl`` and, if they exist, the class queries, refs and captions.

    Raises:
        UsageError: If a file is missing, or a line is malformed.
    """
    segments = folder / SEGMENTS_FILE
    if not segments.is_file() and (folder / PAIRS_FILE).is_file():
        return _read_pairs(folder, image_folder=image_folder)
    if not segments.is_file():
        raise UsageError(
            f"{folder} has no {SEGMENTS_FILE}; name a folder that has one, or a COCO JSON file with masks"
        )
    builders: dict[str, _ImageBuilder] = {}
    for place, row in _read_lines(segments, _SegmentRow):
        builder = builders.setdefault(row.image, _ImageBuilder(size_hw=(row.height, row.width)))
        if builder.size_hw != (row.height, row.width):
            raise UsageError(f"{place}: an earlier line gives another size for {row.image}")
        _add(builder, row, _rle_mask(row.rle, builder.size_hw, place=place), place=place)
    images = tuple(builders[name].build(image_folder / name, name) for name in sorted(builders))
    queries = tuple(_read_class_queries(folder / CLASS_QUERIES_FILE, images))
    refs = tuple(_read_refs(folder / REFS_FILE, images))
    captions = tuple(_read_captions(folder / CAPTIONS_FILE, images))
    return EvalDataset(folder, images, queries, labels_of(images), refs, captions)


def _read_pairs(folder: Path, *, image_folder: Path) -> EvalDataset:
    """Read a data set with pairs and without masks."""
    pairs = [
        Pair(row.image, folder / row.query_image, row.text)
        for _, row in _read_lines(folder / PAIRS_FILE, _PairRow)
    ]
    images = []
    for name in sorted({pair.image for pair in pairs}):
        path = image_folder / name
        pixels = read_image_file(path).pixels if path.is_file() else np.zeros((1, 1, 3), np.uint8)
        images.append(_ImageBuilder(size_hw=(pixels.shape[0], pixels.shape[1])).build(path, name))
    return EvalDataset(folder, tuple(images), (), frozenset(), pairs=tuple(pairs))


def _read_captions(path: Path, images: Iterable[EvalImage]) -> Iterator[Caption]:
    """Yield the captions of images with masks."""
    if path.is_file():
        known = {image.name for image in images}
        for _, row in _read_lines(path, _CaptionRow):
            if row.image in known:
                yield Caption(row.image, row.text)


def _read_coco_json(path: Path, *, image_folder: Path | None) -> EvalDataset:
    """Read a COCO JSON file with instance masks: polygons, or RLE of either kind.

    Every class is assumed to be annotated exhaustively, as in COCO; LVIS uses this format but is not
    annotated exhaustively. Annotations without a pixel are left out.

    Raises:
        UsageError: If the file has another format, or its images are not found.
    """
    file = _validate(_CocoFile, _read_bytes(path), place=str(path))
    source = path.stem
    categories = {category.id: category.name for category in file.categories}
    names = {image.id: image.file_name for image in file.images}
    if len(set(names.values())) < len(file.images):
        raise UsageError(f"{path}: two images have the same id or the same file_name")
    builders = {
        image.file_name: _ImageBuilder(size_hw=(image.height, image.width), sources={source})
        for image in file.images
    }
    for annotation in file.annotations:
        place = f"{path}, annotation {annotation.id}"
        if annotation.image_id not in names:
            raise UsageError(f"{place}: there is no image {annotation.image_id}")
        if annotation.category_id not in categories:
            raise UsageError(f"{place}: there is no category {annotation.category_id}")
        name = names[annotation.image_id]
        builder = builders[name]
        mask = _coco_mask(annotation.segmentation, builder.size_hw, place=place)
        if mask is None:
            continue
        row = _SegmentRow(
            image=name,
            width=builder.size_hw[1],
            height=builder.size_hw[0],
            instance_id=annotation.id,
            category=categories[annotation.category_id],
            rle=_Rle(size=mask.size_hw, counts=mask.counts),
            source=source,
            iscrowd=annotation.iscrowd,
        )
        _add(builder, row, mask, place=place)
    folder = image_folder or _find_image_folder(path, sorted(builders))
    images = tuple(builders[name].build(folder / name, name) for name in sorted(builders))
    return EvalDataset(path, images, tuple(_class_queries_of(images)), labels_of(images))


def _read_lines(path: Path, row_type: type[_AnyRow]) -> Iterator[tuple[str, _AnyRow]]:
    """Yield every line that is not blank, with its file and number for messages."""
    for number, line in enumerate(_read_bytes(path).split(b"\n"), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            yield place, _validate(row_type, line, place=place)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def _validate(row_type: type[_AnyRow], data: bytes, *, place: str) -> _AnyRow:
    try:
        return row_type.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{place}: {where + ': ' if where else ''}{first['msg']}") from error


def _add(builder: _ImageBuilder, row: _SegmentRow, mask: MaskRLE, *, place: str) -> None:
    builder.sources.add(row.source)
    area_px = rle_area_px(mask)
    if area_px == 0:
        return
    if row.instance_id in builder.instances or row.instance_id in builder.crowds:
        raise UsageError(f"{place}: {row.image} has an instance {row.instance_id!r} already")
    group = builder.crowds if row.iscrowd else builder.instances
    group[row.instance_id] = EvalInstance(
        id=row.instance_id,
        category=row.category,
        mask=mask,
        area_px=area_px,
        source=row.source,
        is_stuff=not row.isthing,
    )


def _rle_mask(rle: _Rle, size_hw: tuple[int, int], *, place: str) -> MaskRLE:
    """Return a valid mask of the image's size."""
    if rle.size != size_hw:
        raise UsageError(f"{place}: the mask is {_show(rle.size)}, but the picture {_show(size_hw)}")
    if isinstance(rle.counts, str):
        try:
            mask = MaskRLE(size_hw=size_hw, counts=rle.counts)
            decode_mask(mask)  # raises if the runs do not fit this size
        except ValueError as error:
            raise UsageError(f"{place}: {error}") from error
        return mask
    if min(rle.counts, default=0) < 0 or sum(rle.counts) != size_hw[0] * size_hw[1]:
        raise UsageError(f"{place}: the runs of an RLE must add up to its size, {_show(size_hw)}")
    return _from_coco(coco_mask.frPyObjects({"size": list(size_hw), "counts": rle.counts}, *size_hw), size_hw)


def _coco_mask(
    segmentation: Sequence[Sequence[float]] | _Rle, size_hw: tuple[int, int], *, place: str
) -> MaskRLE | None:
    if isinstance(segmentation, _Rle):
        return _rle_mask(segmentation, size_hw, place=place)
    # Annotation tools leave polygons of one or two points; pycocotools would take four numbers for a box.
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    if not polygons:
        return None
    for polygon in polygons:
        if len(polygon) % 2 or not np.isfinite(polygon).all():
            raise UsageError(f"{place}: a polygon must be pairs of finite numbers")
        # pycocotools allocates memory for every pixel along an edge, also outside the image
        xy, sides = np.reshape(polygon, (-1, 2)), np.array(size_hw[::-1])
        if (xy < -sides).any() or (xy > 2 * sides).any():
            raise UsageError(
                f"{place}: a polygon reaches more than a picture's width or height outside the picture, "
                f"{_show(size_hw)}; its points must be pixels of that picture"
            )
    return _from_coco(coco_mask.merge(coco_mask.frPyObjects(polygons, *size_hw)), size_hw)


def _from_coco(rle: Mapping[str, bytes], size_hw: tuple[int, int]) -> MaskRLE:
    return MaskRLE(size_hw=size_hw, counts=rle["counts"].decode("ascii"))


def _show(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]} x {size_hw[0]}"


def _read_class_queries(path: Path, images: Iterable[EvalImage]) -> Iterator[ClassQuery]:
    if not path.is_file():
        return
    category_of = {(image.name, one.id): one.category for image in images for one in image.instances}
    for place, row in _read_lines(path, _ClassQueryRow):
        for instance_id in row.instance_ids:
            if category_of.get((row.image, instance_id)) != row.text:
                raise UsageError(
                    f"{place}: {SEGMENTS_FILE} has no {row.text!r} {instance_id!r} in {row.image}"
                )
        yield ClassQuery(image=row.image, text=row.text, instance_ids=row.instance_ids)


def _read_refs(path: Path, images: Iterable[EvalImage]) -> Iterator[RefQuery]:
    """Yield the refs of images with masks; other refs are left out."""
    if not path.is_file():
        return
    known = {image.name: {one.id for one in image.instances} for image in images}
    for place, row in _read_lines(path, _RefRow):
        if row.image not in known:
            continue
        if row.instance_id is not None and row.instance_id not in known[row.image]:
            raise UsageError(f"{place}: {SEGMENTS_FILE} has no instance {row.instance_id!r} in {row.image}")
        yield RefQuery(row.image, row.text, row.instance_id, is_absent=row.absent)


def _class_queries_of(images: Iterable[EvalImage]) -> Iterator[ClassQuery]:
    for image in images:
        crowded = {crowd.category for crowd in image.crowds}
        by_category: dict[str, list[str]] = {}
        for one in image.instances:
            if one.category is not None and one.category not in crowded:
                by_category.setdefault(one.category, []).append(one.id)
        for category, ids in sorted(by_category.items()):
            yield ClassQuery(image=image.name, text=category, instance_ids=tuple(ids))


def _find_image_folder(path: Path, names: Sequence[str]) -> Path:
    """Return the usual place that holds the first of the images."""
    here, above = path.parent, path.parent.parent
    split = path.stem.rpartition("_")[2]
    candidates = (here / "images", here, above / "images", above / split, above)
    for folder in candidates:
        if names and (folder / names[0]).is_file():
            return folder
    looked = ", ".join(str(folder) for folder in candidates)
    raise UsageError(
        f"the pictures of {path} are in none of the usual places ({looked}); name their folder with --images"
    )
