"""``segdex eval``: metrics on labeled images."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdex.cli.common import (
    BudgetOption,
    CropLayersOption,
    DeviceOption,
    EmbedderOption,
    GridOption,
    IndexOption,
    JsonOption,
    ProfileOption,
    QualityOption,
    RefinerOption,
    SegmenterOption,
    SelectOption,
    Session,
    ViewsOption,
    console_out,
    print_json,
    settings_from,
)

if TYPE_CHECKING:
    from rich.console import Console

DataArgument = Annotated[Path, typer.Argument(help="Folder with segments.jsonl, or a COCO JSON file.")]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder of the pictures, if not in a usual place.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", help="Number of pictures to sample.")]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Source of the annotations; all uses every source.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Random seed of --limit.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    evaluate = typer.Typer(help="Measure segdex on labeled pictures.", no_args_is_help=True)
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
    """Measure how many true masks the generator finds, and at what cost."""
    from segdex.arguments import MaskChoices, check_limit
    from segdex.cli.labelled import models_of
    from segdex.cli.progress import counted
    from segdex.evaluation.dataset import choose_source
    from segdex.evaluation.load import load_dataset
    from segdex.evaluation.masks import evaluate_masks
    from segdex.usecases.ingest import generator_of

    settings = settings_from(context, profile=profile, device=device, segmenter=segmenter)
    check_limit(limit)
    generator = generator_of(
        MaskChoices(
            select=select,
            segments_per_image=segments_per_image,
            points_per_side=points_per_side,
            crop_layers=crop_layers,
        ),
        quality,
    )
    dataset = choose_source(load_dataset(data, image_folder=images), source)
    model = models_of(context, settings).segmenter
    total = sum(bool(image.instances) for image in dataset.images)
    with counted("pictures", min(total, limit or total)) as advance:
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
    exact: Annotated[bool, typer.Option("--exact", help="Compare the query with every vector.")] = False,
    nms: Annotated[
        bool,
        typer.Option(
            "--nms/--no-nms",
            help="Non-maximum suppression: leave out parts and surroundings of better hits.",
        ),
    ] = True,
    quality: QualityOption = "balanced",
    select: SelectOption = "ranked",
    segments_per_image: BudgetOption = None,
    points_per_side: GridOption = None,
    crop_layers: CropLayersOption = None,
    views: ViewsOption = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Save the result of every query to this JSON file, for --compare."),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option("--compare", help="Print the gains over the run that was saved in this file."),
    ] = None,
    as_json: JsonOption = False,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    device: DeviceOption = None,
) -> int:
    """Search all pictures for every class name, and measure how many hits are right.

    The pictures are first ingested into --index, or into an index in the cache folder. The next run uses
    that index again, and does not repeat the segmentation and embedding of the pictures.
    """
    from segdex.arguments import MaskChoices, check_limit
    from segdex.cli.labelled import labelled_index
    from segdex.cli.progress import counted
    from segdex.evaluation.dataset import sample_dataset
    from segdex.evaluation.load import load_dataset
    from segdex.evaluation.search import evaluate_search
    from segdex.evaluation.search_report import SearchReport
    from segdex.usecases.ingest import generator_of

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
    generator = generator_of(
        MaskChoices(
            select=select,
            segments_per_image=segments_per_image,
            points_per_side=points_per_side,
            crop_layers=crop_layers,
        ),
        quality,
    )
    before = None if compare is None else SearchReport.load(compare)
    dataset = sample_dataset(load_dataset(data, image_folder=images), limit, seed)
    is_named = index is not None or "index" in Session.of(context).options
    with (
        labelled_index(context, settings, dataset, generator, is_named=is_named) as labelled,
        counted("queries", len({query.text for query in dataset.class_queries}), one="query") as advance,
    ):
        report = evaluate_search(
            dataset,
            index=labelled.index,
            embedder=labelled.recipe.embedder,
            image_id_by_name=labelled.image_ids,
            judge=labelled.models.judge,
            exact=exact,
            nms=nms,
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
    """Measure what re-decoded masks gain, and how often "not there" is right.

    The pictures are ingested into the index that `eval search` uses.
    """
    from segdex.arguments import MaskChoices, check_limit
    from segdex.cli.labelled import labelled_index
    from segdex.cli.progress import counted
    from segdex.evaluation.dataset import sample_dataset
    from segdex.evaluation.load import load_dataset
    from segdex.evaluation.refine import evaluate_refine
    from segdex.usecases.ingest import generator_of
    from segdex.wiring import plan_threads

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
    generator = generator_of(MaskChoices(), quality)
    dataset = sample_dataset(load_dataset(data, image_folder=images), limit, seed)
    is_named = index is not None or "index" in Session.of(context).options
    with labelled_index(context, settings, dataset, generator, is_named=is_named) as labelled:
        recipe, models = labelled.recipe, labelled.models
        plan_threads(
            settings.model_copy(update={"analysis_threads": 1})
        ).apply()  # all cores for one hit at a time
        with counted("pictures", len(dataset.images)) as advance:
            report = evaluate_refine(
                dataset,
                index=labelled.index,
                refiner=models.refiner,
                judge=models.judge,
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
    """Measure how well a point, a box, and both together segment the true objects."""
    from segdex.arguments import check_limit
    from segdex.cli.labelled import models_of
    from segdex.cli.progress import counted
    from segdex.evaluation.dataset import choose_source
    from segdex.evaluation.load import load_dataset
    from segdex.evaluation.prompts import evaluate_prompts

    settings = settings_from(context, profile=profile, device=device, segmenter=segmenter)
    check_limit(limit)
    dataset = choose_source(load_dataset(data, image_folder=images), source)
    model = models_of(context, settings).segmenter
    total = sum(bool(image.instances) for image in dataset.images)
    with counted("pictures", min(total, limit or total)) as advance:
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


def _print_figures(figures: Mapping[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(figures)
        return
    console = console_out()
    for name, value in figures.items():
        console.print(f"{name:<20} {_shown(value)}", markup=False)


def _print_with_intervals(figures: Mapping[str, object]) -> None:
    """Print a line for each figure, with its interval if it has one."""
    console = console_out()
    for name, value in figures.items():
        if not name.endswith(("_low", "_high")):
            low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
            interval = "" if low is None else f"  {_shown(low)} to {_shown(high)}"
            console.print(f"{name:<28} {_shown(value)}{interval}", markup=False)


def _print_by_size(figures: Mapping[str, object], console: "Console") -> None:
    """Print a line for each figure, with a column for each size of object."""
    from segdex.cli.tables import print_table

    sizes = ("", "_small", "_medium", "_large")
    heads = ("figure", *(size.removeprefix("_") or "all" for size in sizes))
    rows = [
        (name, *(_shown(figures.get(name + size)) for size in sizes))
        for name in ("instances", "recall_50", "recall_75", "ar", "mean_iou")
    ]
    print_table(console, heads, rows, right=range(1, len(heads)))
    for name in ("images", "segments_per_image", "cpu_s_per_image", "wall_s_per_image"):
        console.print(f"{name:<18} {_shown(figures[name])}")


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
