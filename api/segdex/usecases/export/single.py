"""One mask as a COCO data set: a stored segment, or a mask that no index holds."""

from uuid import UUID, uuid5

from segdex.usecases.export.annotate import Categories, Redrawn, annotation_of, asked_category
from segdex_core.errors import QueryError
from segdex_core.formats.annotations import AnnotatedImage, Annotation
from segdex_core.formats.coco import write_coco
from segdex_core.formats.export import Dataset, FormatOptions, LossMeter
from segdex_core.masks import MaskRLE, rle_area_px, rle_box
from segdex_core.media.uris import uri_to_path
from segdex_core.records import ImageRecord, SegmentRecord
from segdex_core.wire.export import MaskExportRequest


def coco_of(
    image: ImageRecord,
    segment: SegmentRecord | None,
    *,
    drawn: MaskExportRequest | None = None,
    asked: str | None = None,
) -> bytes:
    """Return a COCO data set of one image and one annotation.

    Args:
        image: The image.
        segment: The segment; None if the mask is of none.
        drawn: Mask to export instead of the stored one; needed without a segment.
        asked: Text that the mask was found by: its category if it has no label.

    Raises:
        QueryError: If the mask is empty, or of another size than the image.
    """
    categories = Categories(None, asked=asked_category([asked] if asked else []))
    redrawn = None if drawn is None else Redrawn(_mask_of(drawn, image), drawn.predicted_iou)
    if segment is not None:
        annotation = annotation_of(segment, categories, score=None, redrawn=redrawn)
    elif redrawn is not None:
        annotation = _annotation(image, redrawn, categories.of(()))
    else:
        raise ValueError("there is neither a segment nor a mask")
    annotated = AnnotatedImage(
        image_id=image.image_id,
        sha256=image.sha256,
        uri=image.files[0].uri,
        file_name=uri_to_path(image.files[0].uri).name.encode("utf-8", "backslashreplace").decode(),
        width=image.width,
        height=image.height,
        captured_s=image.captured_s,
        annotations=(annotation,),
    )
    dataset = Dataset([annotated], [annotation.category])
    [document] = write_coco(dataset, FormatOptions(), LossMeter())
    return b"".join(document.chunks)


def _mask_of(drawn: MaskExportRequest, image: ImageRecord) -> MaskRLE:
    if drawn.rle.size != image.size_hw:
        height, width = drawn.rle.size
        raise QueryError(
            f"rle.size must be that of the picture, {image.height} x {image.width}, but is {height} x {width}"
        )
    try:
        mask = MaskRLE(drawn.rle.size, drawn.rle.counts)
        if not rle_area_px(mask):
            raise QueryError("rle must have a pixel, but is empty")
    except ValueError as error:
        raise QueryError(f"rle.counts: {error}") from error
    return mask


def _annotation(image: ImageRecord, redrawn: Redrawn, category: str) -> Annotation:
    return Annotation(
        segment_id=uuid5(UUID(str(image.image_id)), redrawn.mask.counts),
        category=category,
        labels=(),
        mask=redrawn.mask,
        box=rle_box(redrawn.mask),
        area_px=rle_area_px(redrawn.mask),
        score=None,
        predicted_iou=redrawn.predicted_iou,
        object_score=0.0,
    )
