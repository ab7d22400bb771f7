"""``segdex segment``: the mask of one object in any image, which need not be in an index."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segdex.cli.common import (
    OF_MODELS,
    DeviceOption,
    EmbedderOption,
    JsonOption,
    ProfileOption,
    RefinerOption,
    SegmenterOption,
    ServerOption,
    Session,
    console_out,
    is_there,
    opened,
    print_json,
    refuse_options,
    settings_from,
)
from segdex.cli.query_command import TextOptionCommand
from segdex_core.errors import UsageError
from segdex_core.files import write_durably
from segdex_core.media.uris import path_to_uri

if TYPE_CHECKING:
    from segdex.answers import ObjectMask
    from segdex_core.masks import BoolMask
    from segdex_core.records import RGBImage


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("segment", cls=TextOptionCommand)(segment_command)


def segment_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Picture to segment.")],
    point: Annotated[
        list[str] | None, typer.Option("--point", metavar="X,Y", help="A point on the object; repeatable.")
    ] = None,
    not_point: Annotated[
        list[str] | None,
        typer.Option("--not-point", metavar="X,Y", help="A point off the object; repeatable."),
    ] = None,
    box: Annotated[
        str | None, typer.Option("--box", metavar="X1,Y1,X2,Y2", help="A box around the object.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask", help="An earlier mask to improve: a picture of equal size, white is the object."
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", help="Words that name the object, alone or with a --box to search in."),
    ] = None,
    masks: Annotated[
        int, typer.Option("--masks", help="Number of masks: 1, or all 3 of an ambiguous point.")
    ] = 1,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the mask and the cut-out.")] = None,
    as_json: JsonOption = False,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    refiner: RefinerOption = None,
    profile: ProfileOption = None,
    server: ServerOption = None,
    device: DeviceOption = None,
) -> int:
    """Segment an object from points, a box, an earlier mask or a text."""
    from segdex.arguments import PromptFields
    from segdex_core.media.decode import read_image_bytes

    settings = settings_from(
        context,
        profile=profile,
        server=server,
        device=device,
        segmenter=segmenter,
        embedder=embedder,
        refiner=refiner,
    )
    if settings.server is not None:
        refuse_options(context, *OF_MODELS)
    if not is_there(file):
        raise UsageError(f"{file}: there is no such file")
    points = [_point(each, option="--point") for each in point or []]
    away = [_point(each, option="--not-point") for each in not_point or []]
    edges = None if box is None else _numbers(box, option="--box", count=4)
    if text is None and not points and edges is None:
        raise UsageError(
            "say where the object is: at least one point on it (--point), a box (--box) or a text (--text)"
        )
    if text is not None and (points or away or mask is not None or masks != 1):
        raise UsageError("--text goes alone or with --box: points and masks say where the object is already")
    with closing(Session.of(context).parts.open_decoder(settings)) as decode:
        pixels = decode(read_image_bytes(file), name=str(file), max_pixels=settings.max_pixels).pixels
    prompt = PromptFields(
        points=points,
        negative_points=away,
        box=None if edges is None else (edges[0], edges[1], edges[2], edges[3]),
        mask=None if mask is None else _read_mask(mask, pixels),
        text=text,
        masks=_masks(masks),
    )
    with opened(context, settings, has_index=False) as library:
        # a service gets the file itself; a local library gets the decoded pixels
        found = library.segment(pixels if settings.server is None else file, **prompt)
    files = [] if out is None else [_save(out, file.stem, n, pixels, each) for n, each in enumerate(found, 1)]
    if as_json:
        document = found.response.model_dump(mode="json")
        if out is not None:
            uris = [{name: path_to_uri(Path(path)) for name, path in written.items()} for written in files]
            document |= {"files": files, "file_uris": uris}
        print_json(document)
        return 0
    console = console_out()
    for each in found:
        if not each.area_px:
            console.print("nothing found")
            continue
        x1, y1, x2, y2 = each.box
        share = each.area_px / (pixels.shape[0] * pixels.shape[1])
        console.print(f"predicted IoU {each.predicted_iou:.3f}  area {share:.1%}  box {x1},{y1}-{x2},{y2}")
    for written in files:
        for name, path in written.items():
            console.print(f"{name:<9} {path}", markup=False)
    return 0


def _masks(given: int) -> Literal[1, 3]:
    if given not in (1, 3):
        raise UsageError(f"--masks must be 1 or 3, but got {given}")
    return 3 if given == 3 else 1


def _read_mask(path: Path, pixels: "RGBImage") -> "BoolMask":
    import numpy as np
    from PIL import Image

    from segdex_core.media.pillow import PILLOW_ERRORS

    try:
        with Image.open(path) as opened:
            mask = np.asarray(opened.convert("L")) >= 128
    except (*PILLOW_ERRORS, Image.DecompressionBombError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"--mask {path}: cannot be read as a picture: {reason}") from error
    if mask.shape != pixels.shape[:2]:
        raise UsageError(
            f"--mask {path}: is {mask.shape[1]} x {mask.shape[0]}, but the picture is "
            f"{pixels.shape[1]} x {pixels.shape[0]} pixels"
        )
    if not mask.any():
        raise UsageError(f"--mask {path}: is empty; white is the object")
    return mask


def _point(given: str, *, option: str) -> tuple[float, float]:
    x, y = _numbers(given, option=option, count=2)
    return x, y


def _numbers(given: str, *, option: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in given.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        form = "X,Y" if count == 2 else "X1,Y1,X2,Y2"
        raise UsageError(
            f"{option} must be {form} in pixels, such as {option} {_EXAMPLES[count]}, but is {given!r}"
        )
    return numbers


_EXAMPLES = {2: "320,240", 4: "100,80,420,360"}


def _save(out: Path, stem: str, number: int, pixels: "RGBImage", found: "ObjectMask") -> dict[str, str]:
    from segdex.render.drawing import mask_png, png_of

    data = {"mask": mask_png(found.mask)}
    if found.area_px:
        data["cutout"] = png_of(found.cutout(pixels))
    paths = {name: out / f"{stem}-{name}-{number}.png" for name in data}
    try:
        for name, path in paths.items():
            write_durably(path, data[name])
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    return {name: str(path) for name, path in paths.items()}
