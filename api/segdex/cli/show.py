"""``segdex show``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from segdex.cli.common import (
    IndexOption,
    JsonOption,
    ServerOption,
    Session,
    console_out,
    opened,
    print_json,
    settings_from,
)
from segdex.cli.remote import connected
from segdex.cli.search import parse_segment_id
from segdex.render.results import image_out, read_picture, segment_out
from segdex.wiring import Parts, open_source
from segdex_core.errors import UsageError
from segdex_core.masks import decode_mask
from segdex_core.settings import Settings
from segdex_core.wire.images import ImageOut
from segdex_core.wire.segments import SegmentOut
from segdex_search.answer import require_filled

if TYPE_CHECKING:
    from segdex.client import Client


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show")(show_command)


def show_command(
    context: typer.Context,
    segment: Annotated[str, typer.Argument(help="Id of a segment, as `segdex search` prints it.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path(),
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Write a segment as mask PNG, cut-out PNG with alpha, and polygon."""
    settings = settings_from(context, index=index, server=server)
    segment_id = parse_segment_id(segment)
    if settings.server is None:
        shown = _shown_here(Session.of(context).parts, settings, segment_id)
    else:
        with connected(settings, settings.server) as client:
            shown = _shown_by_service(client, segment_id)
    stem = out.expanduser() / str(segment_id)
    files = {
        "mask": (stem.with_name(f"{segment_id}-mask.png"), shown.mask_png),
        "cutout": (stem.with_name(f"{segment_id}-cutout.png"), shown.cutout_png),
        "polygon": (stem.with_name(f"{segment_id}-polygon.json"), json.dumps(shown.polygon).encode()),
    }
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for path, data in files.values():
            path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    found = shown.segment
    if as_json:
        print_json(
            {
                **found.model_dump(mode="json", exclude={"image_id"}),
                "image": shown.image.model_dump(mode="json"),
                "files": {name: str(path) for name, (path, _) in files.items()},
            }
        )
        return 0
    console = console_out()
    x1, y1, x2, y2 = found.box_xyxy
    console.print(f"picture   {shown.image.path}", markup=False)
    console.print(f"box       {x1},{y1}-{x2},{y2}   area {found.area_fraction:.1%}")
    console.print(f"in tree   depth {found.depth}, parent {found.parent_id or 'none'}")
    for name, (path, _) in files.items():
        console.print(f"{name:<9} {path}", markup=False)
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    segment: SegmentOut
    image: ImageOut
    mask_png: bytes
    cutout_png: bytes
    polygon: Mapping[str, object]


def _shown_by_service(client: "Client", segment_id: UUID) -> _Shown:
    segment = client.segment(segment_id)
    return _Shown(
        segment=segment,
        image=client.image(segment.image_id),
        mask_png=client.mask_png(segment_id),
        cutout_png=client.cutout_png(segment_id),
        polygon=client.polygon(segment_id).model_dump(mode="json"),
    )


def _shown_here(parts: Parts, settings: Settings, segment_id: UUID) -> _Shown:
    from segdex.render.drawing import cutout_png, mask_png
    from segdex_core.formats.polygons import mask_polygon

    with opened(parts, settings) as opened_index:
        require_filled(opened_index)
        found = opened_index.get_segments([segment_id])
        if not found:
            raise UsageError(f"there is no segment {segment_id} in {opened_index.location}")
        [record] = found
        images = opened_index.get_images([record.image_id])
        if not images:
            raise UsageError(
                f"the picture of segment {segment_id} is not finished: its ingest is running or was stopped; "
                "run `segdex ingest` again, or forget it with `segdex sync`"
            )
        [image] = images
    mask = decode_mask(record.mask)
    pixels = read_picture(image, source=open_source(), max_pixels=settings.max_pixels)
    return _Shown(
        segment=segment_out(record),
        image=image_out(image),
        mask_png=mask_png(mask),
        cutout_png=cutout_png(pixels, mask, record.box),
        polygon=mask_polygon(mask),
    )
