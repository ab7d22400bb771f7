"""``segdex segment``: the mask of what a person points at, in a picture that no index has to know."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer
from PIL import Image

from segdex.cli.common import (
    DeviceOption,
    EmbedderOption,
    JsonOption,
    ProfileOption,
    RefinerOption,
    SegmenterOption,
    ServerOption,
    Session,
    console_out,
    print_json,
    settings_from,
)
from segdex.cli.remote import OF_MODELS, connected, refuse_options
from segdex.wiring import DEFAULT_PROFILE, Parts
from segdex_core.errors import UsageError
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask, MaskRLE, decode_mask, encode_mask
from segdex_core.media.decode import read_image_file
from segdex_core.ports.prompts import BACKGROUND, FOREGROUND
from segdex_core.records import RGBImage
from segdex_core.settings import Settings
from segdex_core.wire.segments import MaskOut
from segdex_search.click import PromptedMask, ThingPrompt, mask_prompt, segment_thing
from segdex_search.queries import clean_text
from segdex_search.refine.refiner import segment_by_text

if TYPE_CHECKING:
    from segdex.client import Client


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("segment")(segment_command)


def segment_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The picture.")],
    point: Annotated[
        list[str] | None, typer.Option("--point", metavar="X,Y", help="A point on the thing; repeatable.")
    ] = None,
    not_point: Annotated[
        list[str] | None,
        typer.Option("--not-point", metavar="X,Y", help="A point off the thing; repeatable."),
    ] = None,
    box: Annotated[
        str | None, typer.Option("--box", metavar="X1,Y1,X2,Y2", help="A box around the thing.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask", help="An earlier mask to improve, a picture of the same size: white is the thing."
        ),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="What the thing is, alone or with the --box to look in.")
    ] = None,
    masks: Annotated[int, typer.Option("--masks", help="1, or 3 for all that a click may mean.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for mask and cut-out.")] = None,
    as_json: JsonOption = False,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    refiner: RefinerOption = None,
    profile: ProfileOption = None,
    server: ServerOption = None,
    device: DeviceOption = None,
) -> int:
    """Cut out what points, a box, an earlier mask or a text say."""
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
    if not file.exists():
        raise UsageError(f"{file}: there is no such file")
    points = [_numbers(each, option="--point", count=2) for each in point or []]
    away = [_numbers(each, option="--not-point", count=2) for each in not_point or []]
    edges = None if box is None else _numbers(box, option="--box", count=4)
    if text is not None and (points or away or mask is not None or masks != 1):
        raise UsageError("--text goes alone or with --box: points and masks say where the thing is already")
    pixels = read_image_file(file, max_pixels=settings.max_pixels).pixels
    said = _Said(
        text=None if text is None else clean_text(text),
        prompt=None
        if text is not None
        else ThingPrompt(
            points_xy=tuple((x, y) for x, y in (*points, *away)),
            labels=(FOREGROUND,) * len(points) + (BACKGROUND,) * len(away),
            box_xyxy=_box(edges),
        ),
        box_xyxy=_box(edges),
        earlier=None if mask is None else _read_mask(mask, pixels),
        masks=_masks(masks),
    )
    if settings.server is None:
        answers = _answers_here(Session.of(context).parts, settings, pixels, said)
    else:
        with connected(settings, settings.server) as client:
            answers = _answers_of_service(client, file, said)
    files = (
        [] if out is None else [_save(out, file.stem, n, pixels, each) for n, each in enumerate(answers, 1)]
    )
    if as_json:
        print_json(
            {"image": str(file), "masks": [each.model_dump(mode="json") for each in answers], "files": files}
        )
        return 0
    console = console_out()
    for each in answers:
        if not each.area_px:
            console.print("nothing found")
            continue
        x1, y1, x2, y2 = each.box_xyxy
        share = each.area_px / (pixels.shape[0] * pixels.shape[1])
        console.print(f"predicted IoU {each.predicted_iou:.3f}  area {share:.1%}  box {x1},{y1}-{x2},{y2}")
    for written in files:
        for name, path in written.items():
            console.print(f"{name:<9} {path}", markup=False)
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """What is said about the thing: a text, or else a prompt."""

    text: str | None
    prompt: ThingPrompt | None
    box_xyxy: tuple[float, float, float, float] | None
    earlier: BoolMask | None
    masks: Literal[1, 3]


def _box(edges: tuple[float, ...] | None) -> tuple[float, float, float, float] | None:
    return None if edges is None else (edges[0], edges[1], edges[2], edges[3])


def _masks(given: int) -> Literal[1, 3]:
    if given not in (1, 3):
        raise UsageError(f"--masks must be 1 or 3, but got {given}")
    return 3 if given == 3 else 1


def _answers_here(parts: Parts, settings: Settings, pixels: RGBImage, said: _Said) -> list[MaskOut]:
    if said.prompt is None:
        answers = [_by_text(parts, settings, pixels, said.text or "", said.box_xyxy)]
    else:
        answers = _by_prompt(parts, settings, pixels, said.prompt, earlier=said.earlier, masks=said.masks)
    return [
        MaskOut.model_validate(
            {
                "predicted_iou": each.predicted_iou,
                "box_xyxy": each.box,
                "area_px": each.area_px,
                "rle": each.mask.to_coco(),
            }
        )
        for each in answers
    ]


def _answers_of_service(client: "Client", file: Path, said: _Said) -> list[MaskOut]:
    from segdex.client import PointIn, Rle

    points = []
    if said.prompt is not None:
        points = [
            PointIn(x=x, y=y, label=1 if label == FOREGROUND else 0)
            for (x, y), label in zip(said.prompt.points_xy, said.prompt.labels, strict=True)
        ]
    earlier = None if said.earlier is None else encode_mask(said.earlier)
    answer = client.cut_out(
        image=file,
        points=points,
        box_xyxy=said.box_xyxy,
        mask=None if earlier is None else Rle(size=earlier.size_hw, counts=earlier.counts),
        text=said.text,
        masks=said.masks,
    )
    return answer.masks


def _by_prompt(
    parts: Parts,
    settings: Settings,
    pixels: RGBImage,
    prompt: ThingPrompt,
    *,
    earlier: BoolMask | None,
    masks: int,
) -> list[PromptedMask]:
    model = parts.load_segmenter(settings, settings.profile or DEFAULT_PROFILE)
    [features] = model.encode([pixels])
    if earlier is not None:
        prompt = prompt.with_mask(mask_prompt(earlier, features.mask_px))
    return segment_thing(features, prompt, segmenter=model, masks=masks)


def _by_text(
    parts: Parts, settings: Settings, pixels: RGBImage, text: str, edges: tuple[float, ...] | None
) -> PromptedMask:
    size_hw = (pixels.shape[0], pixels.shape[1])
    window = None if edges is None else BoxXYXY(*(round(edge) for edge in edges)).clip(size_hw)
    if window is not None and window.area_px == 0:
        raise UsageError(f"--box: {edges} has no pixel of the picture, {size_hw[1]} x {size_hw[0]}")
    chosen = settings.profile or DEFAULT_PROFILE
    embedder = parts.load_embedder(settings, chosen)
    refiner = parts.make_refiner(
        settings,
        segmenter=parts.load_segmenter(settings, chosen),
        embedder=embedder,
        distractors=parts.load_judge(settings, embedder).distractors,
    )
    mask, _ = segment_by_text(pixels, text, refiner=refiner, window=window)
    return mask


def _read_mask(path: Path, pixels: RGBImage) -> BoolMask:
    try:
        with Image.open(path) as opened:
            mask = np.asarray(opened.convert("L")) >= 128
    except OSError as error:
        raise UsageError(f"--mask {path}: cannot be read as a picture: {error.strerror or error}") from error
    if mask.shape != pixels.shape[:2]:
        raise UsageError(
            f"--mask {path}: is {mask.shape[1]} x {mask.shape[0]}, but the picture is "
            f"{pixels.shape[1]} x {pixels.shape[0]} pixels"
        )
    if not mask.any():
        raise UsageError(f"--mask {path}: is empty; white is the thing")
    return mask


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


def _save(out: Path, stem: str, number: int, pixels: RGBImage, answer: MaskOut) -> dict[str, str]:
    from segdex.render.drawing import cutout_png, mask_png

    mask = decode_mask(MaskRLE(answer.rle.size, answer.rle.counts))
    data = {"mask": mask_png(mask)}
    if answer.area_px:
        data["cutout"] = cutout_png(pixels, mask, BoxXYXY(*answer.box_xyxy))
    paths = {name: out / f"{stem}-{name}-{number}.png" for name in data}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, path in paths.items():
            path.write_bytes(data[name])
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    return {name: str(path) for name, path in paths.items()}
