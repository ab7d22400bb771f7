"""``segdex eval``: figures on labelled pictures."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from segdex.api.cli.common import (
    DeviceOption,
    EmbedderOption,
    IndexOption,
    JsonOption,
    ProfileOption,
    SegmenterOption,
    check_limit,
    console_err,
    console_out,
    opened,
    print_json,
    settings_from,
)
from segdex.api.cli.ingest import (
    BudgetOption,
    CropLayersOption,
    GridOption,
    QualityOption,
    SelectOption,
    generator_settings,
)
from segdex.api.evaluation.dataset import choose_source, sample_dataset
from segdex.api.evaluation.load import load_dataset
from segdex.api.evaluation.masks import evaluate_masks
from segdex.api.evaluation.search import evaluate_search, ingest_dataset
from segdex.api.services import (
    DEFAULT_PROFILE,
    cache_folder,
    load_recipe,
    load_segmenter,
    plan_workers,
)

DataArgument = Annotated[
    Path, typer.Argument(help="Folder with segments.jsonl (DESIGN.md section 6), or a COCO JSON file.")
]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder of the pictures, if not at their usual place.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", help="Take this many pictures, by --seed.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Chooses the pictures of --limit.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    evaluate = typer.Typer(help="Measure masks and search on labelled pictures.", no_args_is_help=True)
    evaluate.command("masks")(masks_command)
    evaluate.command("search")(search_command)
    app.add_typer(evaluate, name="eval")


def masks_command(
    context: typer.Context,
    data: DataArgument,
    images: ImagesOption = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Which annotations count; all takes every one.")
    ] = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    quality: QualityOption = "balanced",
    select: SelectOption = "ranked",
    segments_per_image: BudgetOption = None,
    points_per_side: GridOption = None,
    crop_layers: CropLayersOption = None,
    as_json: JsonOption = False,
    segmenter: SegmenterOption = None,
    profile: ProfileOption = None,
    device: DeviceOption = None,
) -> int:
    """Say how much of the true masks the generator finds, and at what cost."""
    settings = settings_from(context, profile=profile, device=device, segmenter=segmenter)
    check_limit(limit)
    generator = generator_settings(
        quality=quality,
        select=select,
        segments_per_image=segments_per_image,
        points_per_side=points_per_side,
        crop_layers=crop_layers,
    )
    dataset = choose_source(load_dataset(data, image_folder=images), source)
    model = load_segmenter(settings, settings.profile or DEFAULT_PROFILE)
    total = sum(bool(image.instances) for image in dataset.images)
    with _progress("pictures", min(total, limit or total)) as advance:
        report = evaluate_masks(
            dataset,
            segmenter=model,
            settings=generator,
            limit=limit,
            seed=seed,
            max_pixels=settings.max_pixels,
            on_image=lambda _: advance(),
        )
    figures = {**report.to_json(), "segmenter": model.name, "generator": generator.fingerprint()}
    if as_json:
        print_json(figures)
    else:
        _print_by_size(report.to_json(), console_out())
    return 0


def search_command(
    context: typer.Context,
    data: DataArgument,
    images: ImagesOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector.")] = False,
    nested: Annotated[
        bool, typer.Option("--nested", help="Keep parts and surroundings of better hits.")
    ] = False,
    quality: QualityOption = "balanced",
    select: SelectOption = "ranked",
    segments_per_image: BudgetOption = None,
    points_per_side: GridOption = None,
    crop_layers: CropLayersOption = None,
    as_json: JsonOption = False,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    device: DeviceOption = None,
) -> int:
    """Ask for every class name over all pictures, and say how many hits are right.

    The pictures are ingested first, into --index or an index in the cache folder, and kept for the next run.
    """
    settings = settings_from(
        context, profile=profile, index=index, device=device, segmenter=segmenter, embedder=embedder
    )
    check_limit(limit)
    generator = generator_settings(
        quality=quality,
        select=select,
        segments_per_image=segments_per_image,
        points_per_side=points_per_side,
        crop_layers=crop_layers,
    )
    dataset = sample_dataset(load_dataset(data, image_folder=images), limit, seed)
    chosen = settings.profile or DEFAULT_PROFILE
    recipe = load_recipe(settings, chosen, generator)
    if index is None and "index" not in (context.obj or {}):
        name = sha256(f"{data.absolute()}|{recipe.fingerprint()}".encode()).hexdigest()[:16]
        settings = settings.model_copy(update={"index": f"edge:{cache_folder(settings) / 'eval' / name}"})
    with opened(settings, create=True) as opened_index:
        with _progress("pictures", len(dataset.images)) as advance:
            image_ids = ingest_dataset(
                dataset,
                index=opened_index,
                recipe=recipe,
                profile=chosen,
                max_pixels=settings.max_pixels,
                max_bytes=settings.max_bytes,
                jobs=settings.jobs,
                workers=plan_workers(settings),
                on_file=lambda _: advance(),
            )
        with _progress("queries", len({query.text for query in dataset.class_queries})) as advance:
            report = evaluate_search(
                dataset,
                index=opened_index,
                embedder=recipe.embedder,
                image_id_by_name=image_ids,
                exact=exact,
                nested=nested,
                on_query=lambda _: advance(),
            )
    figures = {**report.to_json(), "embedder": recipe.embedder.name, "exact": exact}
    if as_json:
        print_json(figures)
    else:
        console = console_out()
        for name, value in figures.items():
            console.print(f"{name:<18} {_shown(value)}", markup=False)
    return 0


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    with Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console_err(),
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def _print_by_size(figures: Mapping[str, object], console: Console) -> None:
    """Print a line for each figure, and a column for each size of thing."""
    table = Table(box=None, pad_edge=False)
    table.add_column("figure")
    sizes = ("", "_small", "_medium", "_large")
    for size in sizes:
        table.add_column(size.removeprefix("_") or "all", justify="right")
    for name in ("instances", "recall_50", "recall_75", "ar", "mean_iou"):
        table.add_row(name, *(_shown(figures.get(name + size)) for size in sizes))
    console.print(table)
    for name in ("images", "segments_per_image", "cpu_s_per_image", "wall_s_per_image"):
        console.print(f"{name:<18} {_shown(figures[name])}")


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
