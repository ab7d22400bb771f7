"""``segdex show``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from segdex.cli.common import (
    IndexOption,
    JsonOption,
    ServerOption,
    console_out,
    opened,
    print_json,
    settings_from,
)
from segdex_core.errors import UsageError
from segdex_core.files import write_durably
from segdex_core.media.uris import path_to_uri


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show")(show_command)


def show_command(
    context: typer.Context,
    segment: Annotated[
        str, typer.Argument(help="Id of a segment, as `segdex search` prints it, or its start.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path(),
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Write a segment as mask PNG, cut-out PNG with alpha, and polygon."""
    from segdex.cli.ids import segment_ids
    from segdex.render.drawing import mask_png, png_of

    settings = settings_from(context, index=index, server=server)
    with opened(context, settings) as library:
        [segment_id] = segment_ids(library, [segment])
        found = library.show(segment_id)
        cutout = found.cutout()
    stem = out.expanduser() / str(segment_id)
    files = {
        "mask": (stem.with_name(f"{segment_id}-mask.png"), mask_png(found.mask)),
        "cutout": (stem.with_name(f"{segment_id}-cutout.png"), png_of(cutout)),
        "polygon": (stem.with_name(f"{segment_id}-polygon.json"), json.dumps(found.polygon()).encode()),
    }
    try:
        for path, data in files.values():
            write_durably(path, data)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    record = found.record
    if as_json:
        print_json(
            {
                "segment": record.model_dump(mode="json"),
                "image": found.image.model_dump(mode="json"),
                "files": {name: str(path) for name, (path, _) in files.items()},
                "file_uris": {name: path_to_uri(path) for name, (path, _) in files.items()},
            }
        )
        return 0
    console = console_out()
    x1, y1, x2, y2 = found.box
    console.print(f"picture   {found.image.path}", markup=False)
    console.print(f"box       {x1},{y1}-{x2},{y2}   area {found.area_fraction:.1%}")
    console.print(f"in tree   depth {record.depth}, parent {record.parent_id or 'none'}")
    for name, (path, _) in files.items():
        console.print(f"{name:<9} {path}", markup=False)
    return 0
