"""``/v1/images`` and ``/v1/segments``: what the index holds, as JSON and as pictures."""

import hashlib
from io import BytesIO
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Header, HTTPException, Query, Response, UploadFile
from fastapi.responses import JSONResponse
from mimeparse import MimeTypeParseException, best_match
from PIL import Image
from pydantic import Field

from segdex.http.access import State, require
from segdex.http.logs import note_outcome
from segdex.http.problems import responses
from segdex.http.routes.lookups import get_image, get_segment
from segdex.http.routes.uploads import UPLOAD, keep_upload, read_upload
from segdex.render.drawing import cutout_png, mask_png
from segdex.render.results import image_out, read_picture, segment_out
from segdex_core.errors import UsageError
from segdex_core.formats.polygons import mask_polygon
from segdex_core.ids import make_image_id
from segdex_core.masks import decode_mask
from segdex_core.media.decode import decode_image, sha256_hex
from segdex_core.media.uris import canonical_uri
from segdex_core.records import SegmentFilter
from segdex_core.wire.images import ImageOut, Ingested, Stats
from segdex_core.wire.segments import PolygonOut, SegmentOut
from segdex_ingest.report import FAILED
from segdex_ingest.run import IngestOptions, ingest_into
from segdex_search.answer import require_filled

router = APIRouter(prefix="/v1", tags=["pictures"], dependencies=[Depends(require("read"))])

MAX_SIDE_PX = 4_096
_JPEG_QUALITY = 88
_CACHE = "private, max-age=86400"
_PNG: dict[int | str, dict[str, object]] = {
    200: {"content": {"image/png": {}}},
    304: {"description": "Unchanged"},
}

IfNoneMatch = Annotated[str | None, Header()]


@router.get("/stats", responses=responses(401, 403, 429, 503))
def stats(state: State) -> Stats:
    """Say how much the index holds, and of which models."""
    loaded = state.loaded()
    counts = loaded.index.counts()
    found = require_filled(loaded.index)
    return Stats(
        images=counts.images,
        segments=counts.segments,
        profile=loaded.profile,
        embedder=loaded.embedder.name,
        segmenter=found.segmenter,
        dimensions=found.dim,
        views=list(found.views),
        schema_version=found.schema_version,
    )


@router.post(
    "/images",
    status_code=201,
    dependencies=[Depends(require("write"))],
    responses={
        202: {"model": Ingested, "description": "It waits as a job."},
        **responses(400, 401, 403, 411, 413, 415, 422, 429, 503),
    },
)
def upload_image(
    file: UploadFile,
    state: State,
    response: Response,
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Form(max_length=100)] = [],  # noqa: B006 - FastAPI copies it
    wait: Annotated[bool, Form(description="False: answer 202 at once, and ingest it as a job.")] = True,
) -> Ingested:
    """Keep a picture in the folder of uploads, and ingest it; the same picture twice is one."""
    loaded, settings = state.loaded(), state.settings
    if settings.uploads is None:
        raise UsageError("pictures cannot be uploaded here: the service has no SEGDEX_UPLOADS folder")
    data = read_upload(file, settings)
    decode_image(data, name=UPLOAD, max_pixels=settings.max_pixels)  # refused before anything is written
    digest = sha256_hex(data)
    path = keep_upload(data, settings.uploads / digest, name=file.filename)
    image_id = make_image_id(digest)
    if not wait:
        response.status_code = 202
        job = loaded.jobs.add([str(path.resolve())], tags=tags, redo_outdated=True)
        return Ingested(outcome="queued", detail="", image_id=image_id, job_id=job.id)
    with state.ingesting:
        report = ingest_into(
            loaded.index,
            loaded.recipe,
            [canonical_uri(path)],
            source=loaded.source,
            profile=loaded.profile,
            known_ids=[image_id],  # no other picture can have been there: its path is made of its bytes
            lock=loaded.writing,
            options=IngestOptions(
                max_pixels=settings.max_pixels, max_bytes=settings.max_bytes, jobs=1, tags=tuple(tags)
            ),
        )
    [outcome] = report.files
    done = outcome.outcome not in FAILED
    note_outcome(outcome.outcome.value)
    return Ingested(
        outcome=outcome.outcome.value,
        detail=outcome.detail,
        image_id=image_id if done else None,
        segments=outcome.segments,
    )


@router.get("/images/{image_id}", responses=responses(401, 403, 404, 422, 429, 503))
def image(image_id: UUID, state: State) -> ImageOut:
    """Return what is known of a picture."""
    return image_out(get_image(state.loaded(), image_id))


@router.delete(
    "/images/{image_id}",
    status_code=204,
    dependencies=[Depends(require("write"))],
    responses=responses(401, 403, 404, 422, 429, 503),
)
def delete_image(image_id: UUID, state: State) -> None:
    """Forget a picture and its segments; its file stays."""
    loaded = state.loaded()
    get_image(loaded, image_id)
    loaded.index.delete_image(image_id)


@router.get(
    "/images/{image_id}/file",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {}}},
        304: {"description": "Unchanged"},
        **responses(401, 403, 404, 410, 422, 429, 503),
    },
)
def image_file(
    image_id: UUID,
    state: State,
    max_px: Annotated[int, Query(ge=16, le=MAX_SIDE_PX, description="Longest side.")] = 1_024,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a picture as JPEG, upright, no longer than ``max_px``."""
    loaded = state.loaded()
    found = get_image(loaded, image_id)
    etag = _etag(f"{image_id}:{max_px}")
    if if_none_match == etag:
        return Response(status_code=304, headers={"ETag": etag})
    picture = Image.fromarray(read_picture(found, source=loaded.source, max_pixels=state.settings.max_pixels))
    picture.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return Response(
        buffer.getvalue(), media_type="image/jpeg", headers={"ETag": etag, "Cache-Control": _CACHE}
    )


@router.get("/images/{image_id}/segments", responses=responses(401, 403, 404, 422, 429, 503))
def image_segments(image_id: UUID, state: State) -> list[SegmentOut]:
    """Return all segments of a picture, the largest first."""
    loaded = state.loaded()
    get_image(loaded, image_id)
    found = loaded.index.scroll_segments(SegmentFilter(image_ids=(image_id,)))
    return [segment_out(one) for one in sorted(found, key=lambda one: (-one.area_px, one.segment_id))]


@router.get(
    "/segments/{segment_id}",
    response_model=SegmentOut,
    responses={
        200: {
            "description": "In the form that `Accept` prefers.",
            "content": {"image/png": {}, "application/geo+json": {"schema": PolygonOut.model_json_schema()}},
        },
        **responses(401, 403, 404, 406, 422, 429, 503),
    },
)
def segment(
    segment_id: UUID,
    state: State,
    accept: Annotated[str, Header(max_length=1_000)] = "*/*",
) -> Response:
    """Return a segment: JSON with its mask as COCO's run-length code, the mask as PNG, or its outline."""
    record = get_segment(state.loaded(), segment_id)
    form = _best_form(accept)
    if form == "image/png":
        response = _png(mask_png(decode_mask(record.mask)), None)
    elif form == "application/geo+json":
        response = JSONResponse(mask_polygon(decode_mask(record.mask)), media_type=form)
    else:
        response = JSONResponse(segment_out(record).model_dump(mode="json"))
    response.headers["Vary"] = "Accept"
    return response


@router.get(
    "/segments/{segment_id}/mask.png",
    response_class=Response,
    responses={**_PNG, **responses(401, 403, 404, 422, 429, 503)},
)
def segment_mask(segment_id: UUID, state: State, if_none_match: IfNoneMatch = None) -> Response:
    """Return the mask as a PNG of 1 bit a pixel; white is the thing."""
    return _png(mask_png(decode_mask(get_segment(state.loaded(), segment_id).mask)), if_none_match)


@router.get(
    "/segments/{segment_id}/cutout.png",
    response_class=Response,
    responses={**_PNG, **responses(401, 403, 404, 410, 422, 429, 503)},
)
def segment_cutout(segment_id: UUID, state: State, if_none_match: IfNoneMatch = None) -> Response:
    """Return the thing alone as a PNG that is see-through around it."""
    loaded = state.loaded()
    record = get_segment(loaded, segment_id)
    pixels = read_picture(
        get_image(loaded, record.image_id),
        source=loaded.source,
        max_pixels=state.settings.max_pixels,
    )
    return _png(cutout_png(pixels, decode_mask(record.mask), record.box), if_none_match)


@router.get("/segments/{segment_id}/polygon", responses=responses(401, 403, 404, 422, 429, 503))
def segment_polygon(segment_id: UUID, state: State) -> PolygonOut:
    """Return the exact outline as a GeoJSON MultiPolygon in pixels."""
    return PolygonOut.model_validate(mask_polygon(decode_mask(get_segment(state.loaded(), segment_id).mask)))


_FORMS = ("image/png", "application/geo+json", "application/json")
"""Of a segment; the last one is taken where all are equal."""


def _best_form(accept: str) -> str:
    try:
        best: str = best_match(_FORMS, accept or "*/*")
    except MimeTypeParseException as error:
        raise HTTPException(406, f"Accept cannot be read: {error}") from error
    if not best:
        raise HTTPException(406, f"Accept must allow one of {', '.join(_FORMS)}, but is {accept!r}")
    return best


def _png(data: bytes, if_none_match: str | None) -> Response:
    etag = _etag(hashlib.sha256(data).hexdigest())
    if if_none_match == etag:
        return Response(status_code=304, headers={"ETag": etag})
    return Response(data, media_type="image/png", headers={"ETag": etag, "Cache-Control": _CACHE})


def _etag(content: str) -> str:
    return f'"{hashlib.sha256(content.encode()).hexdigest()[:32]}"'
