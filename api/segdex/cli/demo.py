"""``segdex demo``: the main job on eight photographs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from segdex.cli.common import DeviceOption, ProfileOption, Session, console_out, opened, settings_from
from segdex.cli.demo_photos import DEMO_QUERIES, demo_photos
from segdex.cli.ingest import ingest, print_report
from segdex.cli.search import print_hits, save_sheet
from segdex.wiring import DEFAULT_PROFILE, Parts, open_source, plan_workers
from segdex_core.errors import ModelUnavailableError
from segdex_core.settings import ProfileName, Settings
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings
from segdex_ingest.run import IngestOptions
from segdex_search.answer import search
from segdex_search.queries import SearchQuery, TextTerm


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo_command)


def demo_command(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="Folder for the index and the contact sheet.")] = Path(
        "demo"
    ),
    profile: ProfileOption = None,
    device: DeviceOption = None,
) -> int:
    """Ingest eight photographs, ask four questions, and write a contact sheet of the answers."""
    console = console_out()
    settings = settings_from(context, profile=profile, device=device)
    parts = Session.of(context).parts
    chosen, recipe = _load_usable(parts, settings)
    settings = settings.model_copy(update={"profile": chosen, "index": f"edge:{out / f'index-{chosen}'}"})
    options = IngestOptions(
        max_pixels=settings.max_pixels,
        max_bytes=settings.max_bytes,
        jobs=settings.jobs,
        workers=plan_workers(settings).apply().workers,
    )
    answers = []
    source = open_source()
    with opened(parts, settings, create=True) as index:
        report = ingest(
            source.list([str(photo) for photo in demo_photos()]), index, recipe, options, profile=chosen
        )
        print_report(report, console)
        if report.interrupted:
            return report.exit_code
        for text in DEMO_QUERIES:
            query = SearchQuery(terms=(TextTerm(text),), limit=3, per_image=2)
            answer = search(query, index=index, embedder=recipe.embedder)
            console.print(Text(f"\n{text}", style="bold"))
            print_hits(answer.hits, console)
            answers.append((text, answer))
    sheet = out / "contact-sheet.png"
    save_sheet(sheet, answers, settings, title=f"segdex demo, {chosen} profile")
    console.print(f"\ncontact sheet: {sheet}")
    console.print(f"ask more:      segdex --index {settings.index} search 'a spoon' --save hits.png")
    console.print(f"as a page:     segdex --index {settings.index} serve")
    return report.exit_code


def _load_usable(parts: Parts, settings: Settings) -> tuple[ProfileName, Recipe]:
    """Load the profile asked for; with none, ``default``, or ``offline`` where the hub does not answer."""
    try:
        profile = settings.profile or DEFAULT_PROFILE
        return profile, parts.load_recipe(settings, profile, GeneratorSettings())
    except ModelUnavailableError:
        if settings.profile is not None:
            raise
    console_out().print("the model hub does not answer: going on with the offline profile")
    return "offline", parts.load_recipe(settings, "offline", GeneratorSettings())
