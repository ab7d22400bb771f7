"""``segdex eval``: figures on labelled pictures."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from segdex.cli.common import (
    DeviceOption,
    EmbedderOption,
    IndexOption,
    JsonOption,
    ProfileOption,
    RefinerOption,
    SegmenterOption,
    Session,
    check_limit,
    console_err,
    console_out,
    opened,
    print_json,
    settings_from,
)
from segdex.cli.ingest import (
    BudgetOption,
    CropLayersOption,
    GridOption,
    QualityOption,
    SelectOption,
    ViewsOption,
    generator_settings,
)
from segdex.evaluation.dataset import EvalDataset, choose_source, sample_dataset
from segdex.evaluation.load import load_dataset
from segdex.evaluation.masks import evaluate_masks
from segdex.evaluation.prompts import evaluate_prompts
from segdex.evaluation.refine import evaluate_refine
from segdex.evaluation.search import evaluate_search, ingest_dataset
from segdex.evaluation.search_report import SearchReport
from segdex.wiring import (
    DEFAULT_PROFILE,
    Parts,
    cache_folder,
    open_source,
    plan_workers,
)
from segdex_core.ports.index import SegmentIndex
from segdex_core.settings import Settings
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings

DataArgument = Annotated[
    Path, typer.Argument(help="Folder with segments.jsonl (DESIGN.md section 6), or a COCO JSON file.")
]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder of the pictures, if not at their usual place.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", help="Take this many pictures, by --seed.")]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Which annotations count; all takes every one.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Chooses the pictures of --limit.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    evaluate = typer.Typer(help="Measure segdex on labelled pictures.", no_args_is_help=True)
    evaluate.command("masks")(masks_command)
    evaluate.command("search")(search_command)
    evaluate.command("refine")(refine_command)
    evaluate.command("prompts")(prompts_command)
    app.add_typer(evaluate, name="eval")


def masks_command(
    context: typer.Context,
    data: DataArgument,
    images: ImagesOption = None,
    source: SourceOption = None,
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
    model = Session.of(context).parts.load_segmenter(settings, settings.profile or DEFAULT_PROFILE)
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
    views: ViewsOption = None,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write every verdict to this JSON file, for --compare.")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option("--compare", help="Say what is gained over the run that was saved in this file."),
    ] = None,
    as_json: JsonOption = False,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    device: DeviceOption = None,
) -> int:
    """Ask for every class name over all pictures, and say how many hits are right.

    The pictures are ingested first, into --index or an index in the cache folder, and kept for the next run:
    a change of the ranking is judged without the models that segment and embed.
    """
    settings = settings_from(
        context,
        profile=profile,
        index=index,
        device=device,
        segmenter=segmenter,
        embedder=embedder,
        views=views,
    )
    check_limit(limit)
    generator = generator_settings(
        quality=quality,
        select=select,
        segments_per_image=segments_per_image,
        points_per_side=points_per_side,
        crop_layers=crop_layers,
    )
    before = None if compare is None else SearchReport.load(compare)
    dataset = sample_dataset(load_dataset(data, image_folder=images), limit, seed)
    session = Session.of(context)
    is_named = index is not None or "index" in session.options
    with (
        labelled_index(session.parts, settings, dataset, generator, is_named=is_named) as labelled,
        _progress("queries", len({query.text for query in dataset.class_queries})) as advance,
    ):
        report = evaluate_search(
            dataset,
            index=labelled.index,
            embedder=labelled.recipe.embedder,
            image_id_by_name=labelled.image_ids,
            judge=session.parts.load_judge(settings, labelled.recipe.embedder),
            exact=exact,
            nested=nested,
            on_query=lambda _: advance(),
        )
    if save is not None:
        report.save(save)
    gains = {} if before is None else report.compare(before)
    figures = {**report.to_json(), **gains, "embedder": labelled.recipe.embedder.name, "exact": exact}
    if as_json:
        print_json(figures)
    else:
        _print_with_intervals(figures)
    return 0


def refine_command(
    context: typer.Context,
    data: DataArgument,
    images: ImagesOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    quality: QualityOption = "balanced",
    as_json: JsonOption = False,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    refiner: RefinerOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    device: DeviceOption = None,
) -> int:
    """Say what drawing hits again gains, and how often "not there" is right.

    The pictures are ingested as by `eval search`, into the same index.
    """
    settings = settings_from(
        context,
        profile=profile,
        index=index,
        device=device,
        segmenter=segmenter,
        embedder=embedder,
        refiner=refiner,
    )
    check_limit(limit)
    generator = generator_settings(
        quality=quality, select="ranked", segments_per_image=None, points_per_side=None, crop_layers=None
    )
    dataset = sample_dataset(load_dataset(data, image_folder=images), limit, seed)
    session = Session.of(context)
    is_named = index is not None or "index" in session.options
    with labelled_index(session.parts, settings, dataset, generator, is_named=is_named) as labelled:
        recipe = labelled.recipe
        plan_workers(settings.model_copy(update={"workers": 1})).apply()  # all cores for one hit at a time
        judge = session.parts.load_judge(settings, recipe.embedder)
        made = session.parts.make_refiner(
            settings, segmenter=recipe.segmenter, embedder=recipe.embedder, distractors=judge.distractors
        )
        with _progress("pictures", len(dataset.images)) as advance:
            report = evaluate_refine(
                dataset,
                index=labelled.index,
                refiner=made,
                judge=judge,
                image_id_by_name=labelled.image_ids,
                max_pixels=settings.max_pixels,
                seed=seed,
                on_image=advance,
            )
    figures = {**report.to_json(), "embedder": recipe.embedder.name, "segmenter": recipe.segmenter.name}
    _print_figures(figures, as_json=as_json)
    return 0


def prompts_command(
    context: typer.Context,
    data: DataArgument,
    images: ImagesOption = None,
    source: SourceOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    segmenter: SegmenterOption = None,
    profile: ProfileOption = None,
    device: DeviceOption = None,
) -> int:
    """Say how well one point, a box, and both outline the true things."""
    settings = settings_from(context, profile=profile, device=device, segmenter=segmenter)
    check_limit(limit)
    dataset = choose_source(load_dataset(data, image_folder=images), source)
    model = Session.of(context).parts.load_segmenter(settings, settings.profile or DEFAULT_PROFILE)
    total = sum(bool(image.instances) for image in dataset.images)
    with _progress("pictures", min(total, limit or total)) as advance:
        report = evaluate_prompts(
            dataset,
            segmenter=model,
            limit=limit,
            seed=seed,
            max_pixels=settings.max_pixels,
            on_image=advance,
        )
    _print_figures({**report.to_json(), "segmenter": model.name}, as_json=as_json)
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class LabelledIndex:
    """An index that holds the pictures of a labelled set.

    Attributes:
        index: Open.
        recipe: What filled it.
        image_ids: Of the pictures, by name.
    """

    index: SegmentIndex
    recipe: Recipe
    image_ids: Mapping[str, UUID]


@contextmanager
def labelled_index(
    parts: Parts,
    settings: Settings,
    dataset: EvalDataset,
    generator: GeneratorSettings,
    *,
    is_named: bool,
) -> Iterator[LabelledIndex]:
    """Open an index, and ingest what it lacks of a labelled set.

    Args:
        parts: What opens the index and loads the models.
        settings: Models, limits and index.
        dataset: The pictures.
        generator: How they are segmented.
        is_named: Whether the user named the index; else it is one in the cache folder.
    """
    recipe = parts.load_recipe(settings, settings.profile or DEFAULT_PROFILE, generator)
    if not is_named:
        settings = with_kept_index(settings, dataset.path, recipe)
    with opened(parts, settings, create=True) as index:
        yield LabelledIndex(index, recipe, _ingested(dataset, index, recipe, settings))


def with_kept_index(settings: Settings, data: Path, recipe: Recipe) -> Settings:
    """Return settings with an index in the cache folder, one for each data set and recipe."""
    name = sha256(f"{data.absolute()}|{recipe.fingerprint()}".encode()).hexdigest()[:16]
    return settings.model_copy(update={"index": f"edge:{cache_folder(settings) / 'eval' / name}"})


def _ingested(
    dataset: EvalDataset, index: SegmentIndex, recipe: Recipe, settings: Settings
) -> dict[str, UUID]:
    """Ingest what is not there yet, and return the ids of the pictures by name."""
    with _progress("pictures", len(dataset.images)) as advance:
        return ingest_dataset(
            dataset,
            index=index,
            recipe=recipe,
            source=open_source(),
            profile=settings.profile or DEFAULT_PROFILE,
            max_pixels=settings.max_pixels,
            max_bytes=settings.max_bytes,
            jobs=settings.jobs,
            workers=plan_workers(settings).apply().workers,
            on_file=lambda _: advance(),
        )


def _print_figures(figures: Mapping[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(figures)
        return
    console = console_out()
    for name, value in figures.items():
        console.print(f"{name:<20} {_shown(value)}", markup=False)


def _print_with_intervals(figures: Mapping[str, object]) -> None:
    """Print a line for each figure, with its interval where it has one."""
    console = console_out()
    for name, value in figures.items():
        if not name.endswith(("_low", "_high")):
            low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
            interval = "" if low is None else f"  {_shown(low)} to {_shown(high)}"
            console.print(f"{name:<28} {_shown(value)}{interval}", markup=False)


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
