"""``segdex ingest``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from segdex.cli.common import (
    DeviceOption,
    EmbedderOption,
    IndexOption,
    JsonOption,
    ProfileOption,
    SegmenterOption,
    ServerOption,
    Session,
    check_limit,
    console_err,
    console_out,
    opened,
    print_json,
    settings_from,
)
from segdex.cli.ingest_service import upload_files
from segdex.cli.remote import OF_MODELS, connected, refuse_options
from segdex.recipes import RememberedRecipe
from segdex.wiring import Parts, open_source, profile_of, quality_of, remembered_recipe, worker_count
from segdex_core.errors import IndexMissingError, UsageError
from segdex_core.media.uris import canonical_path, display_path
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import Listing
from segdex_core.settings import ProfileName, Settings
from segdex_ingest.analyse import Recipe, RecipeSource
from segdex_ingest.ledger import Ledger
from segdex_ingest.masks.generate import GeneratorSettings, meta_settings, preset
from segdex_ingest.plan import IngestPlan, plan_ingest
from segdex_ingest.report import ANALYSED, FAILED, FileOutcome, IngestReport
from segdex_ingest.run import IngestOptions, ingest_into, rehearse

SelectOption = Annotated[
    str,
    typer.Option(
        "--select", metavar="ranked|meta", help="Best masks up to a budget, or Meta's fixed thresholds."
    ),
]
QualityOption = Annotated[
    str,
    typer.Option(
        "--quality",
        metavar="fast|balanced|best",
        help="How much to find at what cost; README has the figures.",
    ),
]
IngestQualityOption = Annotated[
    str | None,
    typer.Option(
        "--quality",
        metavar="fast|balanced|best",
        help="How much to find at what cost; README has the figures. [default: what filled the index, else "
        "balanced]",
    ),
]
BudgetOption = Annotated[
    int | None,
    typer.Option("--segments-per-image", help="At most this many segments (ranked). [default: by --quality]"),
]
GridOption = Annotated[
    int | None,
    typer.Option("--points-per-side", help="Prompts along each side. [default: by --quality; meta: 32]"),
]
CropLayersOption = Annotated[
    int | None,
    typer.Option(
        "--crop-layers",
        help="Also look into this many layers of windows, for small things (0 to 3). "
        "[default: by --quality; meta: 0]",
    ),
]
ViewsOption = Annotated[
    str | None,
    typer.Option(
        "--views",
        metavar="crops|pooled",
        help="Embed two crops of each segment, or pool one pass over the picture: faster, and less exact. "
        "[env: SEGDEX_VIEWS; default: crops]",
    ),
]


YesOption = Annotated[
    bool,
    typer.Option("--yes", help="Segment again what other models or settings made, without a question."),
]

_OF_AN_INGEST_HERE = (
    "quality",
    "views",
    "select",
    "segments_per_image",
    "points_per_side",
    "crop_layers",
    "jobs",
    "max_pixels",
    "dry_run",
    "yes",
)
"""Options that say how pictures are read and segmented, which a service has chosen."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ingest")(ingest_command)


def generator_settings(
    *,
    quality: str,
    select: str,
    segments_per_image: int | None,
    points_per_side: int | None,
    crop_layers: int | None,
) -> GeneratorSettings:
    """Return the generator settings of the options.

    Raises:
        UsageError: If a value is out of range.
    """
    if select not in ("ranked", "meta"):
        raise UsageError(f"--select must be ranked or meta, but is {select!r}")
    try:
        settings = preset(quality)  # type: ignore[arg-type] # it says itself what is allowed
        settings = meta_settings() if select == "meta" else settings
        return replace(
            settings,
            segments_per_image=_given(segments_per_image, settings.segments_per_image),
            points_per_side=_given(points_per_side, settings.points_per_side),
            crop_layers=_given(crop_layers, settings.crop_layers),
        )
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise UsageError(f"--{name.replace('_', '-')} {rest}") from error


def _given(value: int | None, default: int) -> int:
    return default if value is None else value


def ingest_command(
    context: typer.Context,
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders or quoted patterns such as 'photos/**/*.jpg'.")
    ],
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Leave out names like this.")] = None,
    include_hidden: Annotated[bool, typer.Option("--include-hidden", help="Take hidden files too.")] = False,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Label for every file; repeatable.")] = None,
    quality: IngestQualityOption = None,
    select: SelectOption = "ranked",
    segments_per_image: BudgetOption = None,
    points_per_side: GridOption = None,
    crop_layers: CropLayersOption = None,
    views: ViewsOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Stop after segmenting this many pictures.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", help="Threads that decode ahead. [env: SEGDEX_JOBS]")
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option("--max-pixels", help="Larger pictures are refused. [env: SEGDEX_MAX_PIXELS]")
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    server: ServerOption = None,
    device: DeviceOption = None,
) -> int:
    """Bring the index up to date with pictures: segment, embed and store what is new or changed."""
    settings = settings_from(
        context,
        profile=profile,
        index=index,
        server=server,
        device=device,
        segmenter=segmenter,
        embedder=embedder,
        views=views,
        jobs=jobs,
        max_pixels=max_pixels,
    )
    if settings.server is not None:
        refuse_options(context, *_OF_AN_INGEST_HERE, *OF_MODELS)
    check_limit(limit)
    generator_with = partial(
        generator_settings,
        select=select,
        segments_per_image=segments_per_image,
        points_per_side=points_per_side,
        crop_layers=crop_layers,
    )
    if quality is not None:
        generator_with(quality=quality)  # refused before anything is opened
    options = IngestOptions(
        max_pixels=settings.max_pixels,
        max_bytes=settings.max_bytes,
        jobs=settings.jobs,
        limit=limit,
        tags=_clean_tags(tag or []),
    )
    source = open_source()
    listing = source.list(paths, include_hidden=include_hidden, exclude=exclude or [])
    if not listing.uris and not listing.problems:
        raise UsageError(f"{', '.join(paths)}: no file to ingest there; name a folder with pictures in it")
    parts = Session.of(context).parts
    if settings.server is None:
        _refuse_index_among_pictures(listing, settings)
    if settings.server is not None:
        with connected(settings, settings.server) as client, _progress(len(listing.uris)) as on_file:
            report = upload_files(listing, client, tags=options.tags, limit=limit, on_file=on_file)
    elif dry_run:
        report = dry_run_report(
            listing,
            parts,
            settings,
            options,
            generator_of=lambda index: generator_with(quality=quality or quality_of(index)),
        )
    else:
        with opened(parts, settings, create=True) as opened_index:
            chosen = profile_of(settings, opened_index)
            quality = quality or quality_of(opened_index)
            generator = generator_with(quality=quality)
            recipes = remembered_recipe(settings, chosen, generator, load=parts.load_recipe)
            report = ingest(
                listing,
                opened_index,
                recipes,
                replace(options, workers=worker_count(settings)),
                profile=chosen,
                quality=quality,
                approve=partial(_ask_before_again, recipes=recipes, yes=yes),
            )
            analysed = sum(report.counts[outcome] for outcome in ANALYSED)
            if analysed:
                recipes.note_rate(report.elapsed_s / analysed)
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report, console_out(), dry_run=dry_run)
    return report.exit_code


def ingest(
    listing: Listing,
    index: SegmentIndex,
    recipes: RecipeSource,
    options: IngestOptions,
    *,
    profile: ProfileName,
    quality: str | None = None,
    approve: Callable[[IngestPlan], None] = lambda _: None,
) -> IngestReport:
    """Ingest the files of a listing, with a progress bar."""
    progress = _Progress(len(listing.uris))

    def approved(plan: IngestPlan) -> None:
        approve(plan)  # a question and a bar would write over each other
        progress.start()

    try:
        report = ingest_into(
            index,
            _ShownRecipes(recipes, progress),
            listing.uris,
            source=open_source(),
            profile=profile,
            options=options,
            quality=quality,
            problems=listing.problems,
            approve=approved,
            on_file=progress.on_file,
        )
    finally:
        progress.stop()
    if report.segments and not report.interrupted and index.counts().segments >= _GRAPH_FROM_SEGMENTS:
        with console_err().status("building the search graph"):
            index.optimize()
    return report


_GRAPH_FROM_SEGMENTS = 50_000
"""An embedded index compares fewer one by one fast enough: 100,000 vectors of 512 take 25 to 36 ms."""


def dry_run_report(
    listing: Listing,
    parts: Parts,
    settings: Settings,
    options: IngestOptions,
    *,
    generator_of: Callable[[SegmentIndex], GeneratorSettings],
) -> IngestReport:
    """Say what an ingest would do; loads no model and writes nothing."""
    source = open_source()
    try:
        index = parts.open_index(settings, create=False)
    except IndexMissingError:
        ledger, recipe = Ledger(()), ""
    else:
        try:
            records = list(index.scroll_images())
            ledger = Ledger(records)
            profile = profile_of(settings, index)
            recipes = remembered_recipe(settings, profile, generator_of(index), load=parts.load_recipe)
            # where it is not remembered, the recipe of the last picture stands for it
            recipe = recipes.remembered() or (records[-1].recipe if records else "")
        finally:
            index.close()
    plan = plan_ingest(listing.uris, source=source, ledger=ledger, recipe=recipe)
    with _progress(len(listing.uris)) as on_file:
        return rehearse(
            plan, source=source, ledger=ledger, options=options, problems=listing.problems, on_file=on_file
        )


def _ask_before_again(plan: IngestPlan, *, recipes: RememberedRecipe, yes: bool) -> None:
    """Ask before pictures that other models or settings made are segmented again.

    Raises:
        UsageError: If nobody is there to be asked.
        KeyboardInterrupt: If the answer is no.
    """
    if not plan.outdated or yes:
        return
    what = plan.describe_outdated(recipes.image_s())
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{what}: add --yes, or name the settings that they were made with")
    if not typer.confirm(f"{what}. Go on?", err=True):
        raise KeyboardInterrupt


def print_report(report: IngestReport, console: Console, *, dry_run: bool = False) -> None:
    """Print what went wrong, a table of outcomes, and the rate."""
    for path, reason in report.skipped_folders:
        console.print(Text(f"skipped {path}: {reason}", style="yellow"))
    failed = [file for file in report.files if file.outcome in FAILED]
    for file in failed[:_SHOWN_FAILURES]:
        console.print(Text(f"{file.outcome}: {file.detail}", style="yellow"))
    if len(failed) > _SHOWN_FAILURES:
        console.print(f"... and {len(failed) - _SHOWN_FAILURES} more; --json lists all")
    table = Table(title="what would happen" if dry_run else None, box=None, pad_edge=False)
    table.add_column("outcome")
    table.add_column("files", justify="right")
    for outcome, count in report.counts.items():
        if count:
            table.add_row(outcome.value, f"{count:,}")
    console.print(table)
    rate = len(report.files) / report.elapsed_s if report.elapsed_s else 0.0
    console.print(
        f"{len(report.files):,} files, {report.segments:,} new segments in {report.elapsed_s:.1f} s"
        f" ({rate:.2f} files/s)"
    )
    analysed = sum(report.counts[outcome] for outcome in ANALYSED)
    if not dry_run and report.files and not report.interrupted and not analysed and not failed:
        console.print("nothing had to be ingested again")
    if report.interrupted:
        console.print("stopped: run the same command again to go on")


_SHOWN_FAILURES = 20


class _RateColumn(ProgressColumn):
    """Files per second, or seconds per file where that reads better."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("-- files/s", style="progress.data.speed")
        text = f"{speed:.1f} files/s" if speed >= 1 else f"{1 / speed:.1f} s/file"
        return Text(text, style="progress.data.speed")


class _Progress:
    """A bar on standard error, which says what became of the last file."""

    def __init__(self, total: int) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console_err(),
        )
        self._task = self._bar.add_task("", total=total)

    def start(self) -> None:
        """Show the bar; calling it twice is harmless."""
        self._bar.start()

    def stop(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()

    def on_file(self, outcome: FileOutcome) -> None:
        """Count a file."""
        name = Path(display_path(outcome.uri)).name
        self._bar.update(self._task, advance=1, description=f"{name}: {outcome.outcome}")

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Say that models are being loaded, in the bar or, before there is one, alone."""
        if self._bar.live.is_started:
            self._bar.update(self._task, description=_LOADING)
            yield
        else:
            with console_err().status(_LOADING):
                yield


_LOADING = "loading the models"


class _ShownRecipes:
    """Recipes that say so while they are loaded."""

    def __init__(self, recipes: RecipeSource, progress: _Progress) -> None:
        self._recipes = recipes
        self._progress = progress

    def fingerprint(self) -> str:
        with self._progress.loading():  # where it is not remembered
            return self._recipes.fingerprint()

    def load(self) -> Recipe:
        with self._progress.loading():
            return self._recipes.load()


@contextmanager
def _progress(total: int) -> Iterator[Callable[[FileOutcome], None]]:
    """Show a bar, and yield what is to be called after each file."""
    progress = _Progress(total)
    progress.start()
    try:
        yield progress.on_file
    finally:
        progress.stop()


def _clean_tags(tags: list[str]) -> tuple[str, ...]:
    for tag in tags:
        if not tag.strip() or len(tag) > _MAX_TAG_CHARS or not tag.isprintable():
            raise UsageError(f"--tag must be 1 to {_MAX_TAG_CHARS} printable characters, but is {tag!r}")
    return tuple(sorted({tag.strip() for tag in tags}))


_MAX_TAG_CHARS = 100


def _refuse_index_among_pictures(listing: Listing, settings: Settings) -> None:
    """Refuse to ingest a folder that holds the index itself: its files are no pictures of the user."""
    if not settings.index.startswith("edge:"):
        return
    folder = canonical_path(Path(settings.index.removeprefix("edge:")).expanduser())
    inside = folder.as_uri() + "/"
    if any(uri.startswith(inside) for uri in listing.uris):
        raise UsageError(
            f"the index {folder} lies inside what is to be ingested; choose another --index, or leave it out "
            f"with --exclude {folder.name}"
        )
