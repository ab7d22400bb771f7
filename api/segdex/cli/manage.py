"""``segdex stats``, ``delete`` and ``sync``: look after an index."""

from typing import Annotated
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
from segdex.cli.manage_service import forget_by_service, service_figures
from segdex.cli.remote import connected
from segdex.wiring import open_source
from segdex_core.errors import UsageError
from segdex_core.media.uris import canonical_uri, display_path, spellings
from segdex_core.ports.index import IndexReader, SegmentIndex
from segdex_core.records import ImageRecord
from segdex_ingest.sync import apply_sync, plan_sync
from segdex_search.answer import require_filled


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("stats")(stats_command)
    app.command("delete")(delete_command)
    app.command("sync")(sync_command)


def stats_command(
    context: typer.Context,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Say what an index holds and what filled it."""
    settings = settings_from(context, index=index, server=server)
    if settings.server is None:
        with opened(Session.of(context).parts, settings) as opened_index:
            figures = _figures(opened_index)
    else:
        with connected(settings, settings.server) as client:
            figures = service_figures(client)
    if as_json:
        print_json(figures)
    else:
        console = console_out()
        for name, value in figures.items():
            if value is None:
                continue
            shown = f"{value:,}" if isinstance(value, int) else value
            console.print(f"{name.replace('_', ' '):<22} {shown}", markup=False)
    return 0


def delete_command(
    context: typer.Context,
    pictures: Annotated[list[str], typer.Argument(help="Files, folders or picture ids to forget.")],
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Forget pictures and their segments; the files stay."""
    settings = settings_from(context, index=index, server=server)
    if settings.server is None:
        with opened(Session.of(context).parts, settings) as opened_index:
            forgotten = _forget(opened_index, pictures)
    else:
        with connected(settings, settings.server) as client:
            forgotten = forget_by_service(client, pictures)
    segments = sum(forgotten.values())
    if as_json:
        print_json({"images": [str(image_id) for image_id in forgotten], "segments": segments})
    else:
        console_out().print(
            f"forgot {len(forgotten):,} pictures with {segments:,} segments; no file was touched"
        )
    return 0


def sync_command(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be forgotten.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also when every picture is gone.")] = False,
    as_json: JsonOption = False,
    index: IndexOption = None,
) -> int:
    """Forget pictures whose files are gone, and what an interrupted ingest left behind."""
    settings = settings_from(context, index=index)
    with opened(Session.of(context).parts, settings) as opened_index:
        require_filled(opened_index)
        plan = plan_sync(opened_index, source=open_source())
        if plan.images and len(plan.gone) == plan.images and not (dry_run or force):
            raise UsageError(
                f"all {plan.images:,} pictures of {opened_index.location} are gone, the first from "
                f"{display_path(plan.gone[0].files[0].uri)}; is a disk not mounted? --force forgets them all"
            )
        if not dry_run:
            apply_sync(plan, opened_index)
    if as_json:
        print_json(
            {
                "gone": [display_path(record.files[0].uri) for record in plan.gone],
                "moved": len(plan.moved),
                "orphans": len(plan.orphans),
                "dry_run": dry_run,
            }
        )
    else:
        verb = "would forget" if dry_run else "forgot"
        console_out().print(
            f"{verb} {len(plan.gone):,} of {plan.images:,} pictures; {len(plan.moved):,} lie in fewer "
            f"places; {len(plan.orphans):,} leftovers of interrupted ingests"
        )
    return 0


def _figures(index: IndexReader) -> dict[str, int | float | str | None]:
    counts = index.counts()
    found = require_filled(index)
    without = sum(record.status == "no_segments" for record in index.scroll_images())
    return {
        "index": index.location,
        "pictures": counts.images,
        "segments": counts.segments,
        "segments_per_picture": round(counts.segments / counts.images, 1) if counts.images else None,
        "pictures_without_segments": without,
        "profile": found.profile,
        "embedder": found.embedder,
        "dimensions": found.dim,
        "views": ", ".join(found.views),
        "segmenter": found.segmenter,
        "schema_version": found.schema_version,
    }


def _forget(index: SegmentIndex, pictures: list[str]) -> dict[UUID, int]:
    """Forget pictures, and return how many segments each had."""
    require_filled(index)
    ledger = list(index.scroll_images())
    doomed: dict[UUID, ImageRecord] = {}
    for given in pictures:
        found = _matching(given, ledger)
        if not found:
            raise UsageError(
                f"{given!r} names no picture of {index.location}: give a file, a folder or a picture id"
            )
        doomed.update((record.image_id, record) for record in found)
    for record in doomed.values():
        index.delete_image(record.image_id)
    return {image_id: record.segment_count for image_id, record in doomed.items()}


def _matching(given: str, ledger: list[ImageRecord]) -> list[ImageRecord]:
    """Return the pictures that an id, a file or a folder names; a picture that lies elsewhere too is one."""
    try:
        image_id = UUID(given)
    except ValueError:
        uri = canonical_uri(given)
        named = {uri, *spellings(uri)}
        here = [record for record in ledger if any(canonical_uri(file.uri) in named for file in record.files)]
        return here or [record for record in ledger if named & set(record.sources)]
    return [record for record in ledger if record.image_id == image_id]
