"""``segdex show``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from segdex.api.cli.common import IndexOption, JsonOption, console_out, opened, print_json, settings_from
from segdex.api.cli.search import parse_segment_id
from segdex.api.results import image_to_json, read_picture, segment_to_json
from segdex.core.errors import UsageError
from segdex.core.masks import decode_mask
from segdex.core.uris import display_path
from segdex.search.service import require_filled


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show")(show_command)


def show_command(
    context: typer.Context,
    segment: Annotated[str, typer.Argument(help="Id of a segment, as `segdex search` prints it.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path(),
    as_json: JsonOption = False,
    index: IndexOption = None,
) -> int:
    """Write a segment as mask PNG, cut-out PNG with alpha, and polygon."""
    from segdex.api.drawing import cutout_png, mask_png
    from segdex.api.polygons import mask_polygon

    settings = settings_from(context, index=index)
    segment_id = parse_segment_id(segment)
    with opened(settings) as opened_index:
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
    pixels = read_picture(image, max_pixels=settings.max_pixels)
    stem = out.expanduser() / str(segment_id)
    files = {
        "mask": (stem.with_name(f"{segment_id}-mask.png"), mask_png(mask)),
        "cutout": (stem.with_name(f"{segment_id}-cutout.png"), cutout_png(pixels, mask, record.box)),
        "polygon": (
            stem.with_name(f"{segment_id}-polygon.json"),
            json.dumps(mask_polygon(mask)).encode(),
        ),
    }
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for path, data in files.values():
            path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    if as_json:
        written = {name: str(path) for name, (path, _) in files.items()}
        print_json({**segment_to_json(record), "image": image_to_json(image), "files": written})
        return 0
    console = console_out()
    box = record.box
    console.print(f"picture   {display_path(image.files[0].uri)}", markup=False)
    console.print(f"box       {box.x1},{box.y1}-{box.x2},{box.y2}   area {record.area_fraction:.1%}")
    console.print(f"in tree   depth {record.depth}, parent {record.parent_id or 'none'}")
    for name, (path, _) in files.items():
        console.print(f"{name:<9} {path}", markup=False)
    return 0
