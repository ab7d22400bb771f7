"""``segdex demo``: ingest and search eight photographs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdex.cli.common import DeviceOption, ProfileOption, console_out, opened_here, settings_from
from segdex_core.choices import ProfileName
from segdex_core.errors import ModelUnavailableError

if TYPE_CHECKING:
    from segdex_core.settings import Settings


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
    """Ingest eight photographs, run four queries, and write a contact sheet of the answers."""
    from rich.text import Text

    from segdex.cli.answers import print_found
    from segdex.cli.demo_photos import DEMO_QUERIES, demo_photos
    from segdex.cli.ingest import exit_code, print_report
    from segdex.cli.progress import shown_progress
    from segdex.render.sheets import answer_row, save_rows

    console = console_out()
    settings = settings_from(context, profile=profile, device=device)
    chosen = _usable_profile(context, settings)
    settings = settings.model_copy(update={"profile": chosen, "index": f"edge:{out / f'index-{chosen}'}"})
    rows = []
    with opened_here(context, settings) as library:
        with shown_progress() as progress:
            report = library.ingest(*demo_photos(), progress=progress)
        print_report(report, console)
        if report.interrupted:
            return exit_code(report)
        for text in DEMO_QUERIES:
            answer = library.search(text, limit=3, per_image=2)
            console.print(Text(f"\n{text}", style="bold"))
            print_found(answer.response.hits, console)
            rows.append(answer_row(text, answer.hits))
        sheet = out / "contact-sheet.png"
        save_rows(sheet, rows, title=f"segdex demo, {chosen} profile")
    console.print(f"\ncontact sheet: {sheet}")
    console.print(f"ask more:      segdex --index {settings.index} search 'a spoon' --save hits.png")
    console.print(f"as a page:     segdex --index {settings.index} serve")
    return exit_code(report)


def _usable_profile(context: typer.Context, settings: "Settings") -> ProfileName:
    """Return the chosen profile; without one, ``default``, or ``offline`` if the hub does not answer."""
    from segdex.wiring import DEFAULT_PROFILE
    from segdex_ingest.masks.generate import GeneratorSettings

    if settings.profile is not None:
        return settings.profile
    try:
        with opened_here(context, settings, has_index=False) as library:
            library.models.recipes(GeneratorSettings()).load()
    except ModelUnavailableError:
        console_out().print("the model hub does not answer: going on with the offline profile")
        return "offline"
    return DEFAULT_PROFILE
