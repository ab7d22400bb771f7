"""Ingest files: list, plan, confirm that images are segmented again, segment, write."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Protocol, get_args, runtime_checkable

from segdex.arguments import IngestProgress, MaskChoices
from segdex.usecases.opening import LazyIndex
from segdex_core.choices import ProfileName, Quality
from segdex_core.errors import ArgumentError, IndexMissingError, UsageError
from segdex_core.locations import embedded_folder
from segdex_core.media.not_pictures import NotPictures
from segdex_core.media.uris import canonical_path, display_path, uri_sources
from segdex_core.ports.index import IndexReader, SegmentIndex
from segdex_core.ports.source import Listing, Source
from segdex_core.records import ImageRecord
from segdex_core.wording import count_of
from segdex_ingest.analyse import Recipe, RecipeSource
from segdex_ingest.beside import Beside
from segdex_ingest.earlier import count_other_views
from segdex_ingest.finish import as_finished
from segdex_ingest.journal import Journal
from segdex_ingest.ledger import Ledger
from segdex_ingest.masks.generate import GeneratorSettings, meta_settings, preset
from segdex_ingest.plan import IngestPlan, plan_ingest
from segdex_ingest.report import ANALYSED, FileOutcome, IngestReport
from segdex_ingest.run import IngestOptions, ingest_into, rehearse

GRAPH_FROM_SEGMENTS = 50_000
"""Number of segments from which a search graph is built. An embedded index compares fewer segments one by one
fast enough: 100,000 vectors of 512 numbers take 25 to 36 ms."""

_NAMED_PLACES = 5


def generator_of(choices: MaskChoices, quality: str) -> GeneratorSettings:
    """Return the settings of the mask generator.

    Raises:
        ArgumentError: If a value is not allowed.
    """
    if choices.select not in ("ranked", "meta"):
        raise ArgumentError("select", f"must be ranked or meta, but got {choices.select!r}")
    try:
        settings = preset(quality)  # type: ignore[arg-type] # preset checks it
        settings = meta_settings() if choices.select == "meta" else settings
        return replace(
            settings,
            segments_per_image=_given(choices.segments_per_image, settings.segments_per_image),
            points_per_side=_given(choices.points_per_side, settings.points_per_side),
            crop_layers=_given(choices.crop_layers, settings.crop_layers),
        )
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise ArgumentError(name, rest) from error


def _given(value: int | None, default: int) -> int:
    return default if value is None else value


@runtime_checkable
class Remembers(Protocol):
    """Recipes with cached values that are known before their models are loaded."""

    def remembered(self) -> str | None:
        """Return ``Recipe.fingerprint`` if it is known without loading the models, otherwise None."""
        ...

    def image_s(self) -> float | None:
        """Return the wall seconds per image; None if unknown."""
        ...

    def note_rate(self, image_s: float) -> None:
        """Store the wall seconds per image."""
        ...


def require_outside(index: str, listing: Listing) -> None:
    """Raise if files to ingest lie inside an embedded index.

    Args:
        index: Location of the index, as in ``Settings.index``.
        listing: Files to ingest.

    Raises:
        UsageError: If a file lies inside the index; the message says what to change.
    """
    found = embedded_folder(index)
    if found is None:
        return
    folder = canonical_path(found)
    inside = folder.as_uri() + "/"
    if any(uri.startswith(inside) for uri in listing.uris):
        raise UsageError(
            f"the index {folder} lies inside what is to be ingested; choose another --index, or leave it "
            f"out with --exclude {folder.name}"
        )


def ingest_listing(
    listing: Listing,
    index: SegmentIndex,
    recipes: RecipeSource,
    options: IngestOptions,
    *,
    source: Source,
    profile: ProfileName,
    quality: str | None,
    redo_outdated: bool,
    progress: IngestProgress,
    lock: AbstractContextManager[object],
    journal: Journal,
    not_pictures: NotPictures,
) -> IngestReport:
    """Bring an index up to date with the files of a listing.

    Raises:
        UsageError: If images would be segmented again without permission, or only because of other views.
        KeyboardInterrupt: If the user declined to segment images again.
    """
    rates = recipes if isinstance(recipes, Remembers) else None

    def approve(plan: IngestPlan) -> None:
        other_views = count_other_views(plan, index)
        if other_views:
            raise UsageError(
                f"{other_views:,} pictures have these masks, but vectors of other views: change them with "
                "`segdex reembed`, which does not segment again, or name the views of the index with --views"
            )
        if plan.outdated and not redo_outdated:
            what = plan.describe_outdated(None if rates is None else rates.image_s())
            if progress.confirm is None:
                raise UsageError(
                    f"{what}: add --yes (redo_outdated), or name the settings that they were made with"
                )
            if not progress.confirm(f"{what}. Go on?"):
                raise KeyboardInterrupt
        progress.on_plan(_to_do(plan))
        progress.on_start(len(listing.uris))

    def on_file(outcome: FileOutcome) -> None:
        progress.on_file(outcome.to_document())

    report = ingest_into(
        index,
        _NotedRecipes(recipes, progress.on_note),
        listing.uris,
        source=source,
        profile=profile,
        options=options,
        quality=quality,
        problems=listing.problems,
        approve=approve,
        on_file=on_file,
        lock=lock,
        journal=journal,
        beside=_beside(listing, not_pictures),
    )
    report = replace(report, notes=_notes(listing, index.scroll_images))
    analysed = sum(report.counts[outcome] for outcome in ANALYSED)
    if analysed and rates is not None:
        rates.note_rate(report.elapsed_s / analysed)
    return report


def build_graph(index: SegmentIndex, progress: IngestProgress) -> None:
    """Build the search graph of an index if it is large; all threads of the process wait for it.

    Args:
        index: Index that was filled.
        progress: Callbacks that report the progress.
    """
    if index.counts().segments >= GRAPH_FROM_SEGMENTS:
        with noted("building the search graph", progress.on_note):
            index.optimize()


def rehearse_listing(
    listing: Listing,
    options: IngestOptions,
    *,
    source: Source,
    index: LazyIndex,
    recipes: Callable[[SegmentIndex], RecipeSource],
    progress: IngestProgress,
    not_pictures: NotPictures,
) -> IngestReport:
    """Return what an ingest would do; no model is loaded and nothing is written.

    Args:
        listing: Files to ingest.
        options: Limits and tags.
        source: Source of the files.
        index: Index that would be filled; it need not exist.
        recipes: Returns the recipe for an index.
        progress: Callbacks that report the progress.
        not_pictures: Remembers which files are no pictures; a cache, which is filled here too.
    """
    known: str | None = None
    try:
        found = index.get()
    except IndexMissingError:
        records: list[ImageRecord] = []
    else:
        records = list(found.scroll_images())
        chosen = recipes(found)
        known = chosen.remembered() if isinstance(chosen, Remembers) else None
    # without a cached fingerprint, the recipe of the last record is assumed
    recipe = known or next((one.recipe for one in reversed(records) if one.recipe), "")
    ledger = Ledger(as_finished(records))
    beside = _beside(listing, not_pictures)
    plan = plan_ingest(listing.uris, source=source, ledger=ledger, recipe=recipe, find_other=beside.find)
    progress.on_plan(_to_do(plan))
    progress.on_start(len(listing.uris))
    report = rehearse(
        plan,
        source=source,
        ledger=ledger,
        options=options,
        beside=beside,
        problems=listing.problems,
        on_file=lambda one: progress.on_file(one.to_document()),
    )
    return replace(report, notes=_notes(listing, lambda: records))


def _beside(listing: Listing, not_pictures: NotPictures) -> Beside:
    return Beside(frozenset(listing.named), not_pictures.scan(listing.places))


def _to_do(plan: IngestPlan) -> list[str]:
    return [file.uri for file in plan.files if file.state in ("outdated", "to_read")]


def _notes(listing: Listing, records: Callable[[], Iterable[ImageRecord]]) -> tuple[str, ...]:
    """Return the notes of a listing, with one about pictures of the index that are excluded now."""
    if not listing.left_out:
        return listing.notes
    left_out = set(listing.left_out)
    within = [
        place
        for record in records()
        for place in {uri for file in record.files for uri in uri_sources(file.uri)} & left_out
    ]
    if not within:
        return listing.notes
    places = [display_path(uri) for uri in dict.fromkeys(sorted(within))]
    return (
        *listing.notes,
        f"{count_of(len(within), 'picture')} in what is excluded now stay in the index; "
        f"`segdex delete` forgets them: {', '.join(places[:_NAMED_PLACES])}"
        + (f" and {len(places) - _NAMED_PLACES:,} more" if len(places) > _NAMED_PLACES else ""),
    )


def quality_of(index: IndexReader) -> Quality:
    """Return the quality of the masks in an index, or ``balanced`` if it is unknown."""
    found = index.fingerprint()
    known = None if found is None else found.quality
    return next((quality for quality in get_args(Quality) if quality == known), "balanced")


class _NotedRecipes:
    """Recipes that report when their models are being loaded."""

    def __init__(self, recipes: RecipeSource, on_note: Callable[[str], None]) -> None:
        self._recipes = recipes
        self._on_note = on_note

    def fingerprint(self) -> str:
        """See ``RecipeSource``."""
        with noted("loading the models", self._on_note):  # unless it is cached
            return self._recipes.fingerprint()

    def load(self) -> Recipe:
        """See ``RecipeSource``."""
        with noted("loading the models", self._on_note):
            return self._recipes.load()


@contextmanager
def noted(note: str, on_note: Callable[[str], None]) -> Iterator[None]:
    """Report what takes long while a block runs, and "" when it ends in any way."""
    on_note(note)
    try:
        yield
    finally:
        on_note("")
