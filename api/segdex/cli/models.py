"""``segdex models``: the known models, their sources and licenses."""

import sys
from dataclasses import asdict
from textwrap import wrap

import typer

from segdex.cli.common import (
    DeviceOption,
    EmbedderOption,
    JsonOption,
    ProfileOption,
    RefinerOption,
    SegmenterOption,
    Session,
    console_out,
    print_json,
    settings_from,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    models = typer.Typer(help="List and download models.", no_args_is_help=True)
    models.command("list")(list_command)
    models.command("pull")(pull_command)
    app.add_typer(models, name="models")


def list_command(as_json: JsonOption = False) -> int:
    """List the known models with their sources and licenses."""
    from rich.text import Text

    from segdex.catalog import known_models

    if as_json:
        # no entry of the catalog has a precision: device and settings choose it
        rows = [asdict(entry) for entry in known_models()]
        print_json([{key: value for key, value in row.items() if key != "precision"} for row in rows])
        return 0
    console = console_out()
    for entry in known_models():
        used = ", ".join(entry.profiles())
        console.print(Text.assemble((entry.name, "bold"), f"  {entry.role}{used and f'; {used}'}"))
        for line in wrap(
            entry.title,
            console.width if console.is_terminal else sys.maxsize,
            initial_indent="  ",
            subsequent_indent="  ",
        ):
            console.print(line, markup=False)
        for source in entry.sources:
            version = f"@{source.version}" if source.version else ""
            console.print(f"  {source.kind}:{source.package}{version}  {source.licence}", markup=False)
    return 0


def pull_command(
    context: typer.Context,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    refiner: RefinerOption = None,
    profile: ProfileOption = None,
    device: DeviceOption = None,
) -> int:
    """Download the models of a profile and check that they load."""
    from segdex.cli.progress import waiting
    from segdex.wiring import DEFAULT_PROFILE, load_text_segmenter

    settings = settings_from(
        context, profile=profile, device=device, segmenter=segmenter, embedder=embedder, refiner=refiner
    )
    chosen, parts = settings.profile or DEFAULT_PROFILE, Session.of(context).parts
    console = console_out()
    with waiting("fetching and loading the segmenter") as says:
        loaded_segmenter = parts.load_segmenter(settings, chosen)
        says("fetching and loading the embedder")
        loaded_embedder = parts.load_embedder(settings, chosen)
        name = settings.refiner
        says("" if name is None else "fetching and loading the refiner")
        loaded_refiner = None if name is None else load_text_segmenter(settings, name)
    console.print(f"segmenter {loaded_segmenter.name}", markup=False)
    console.print(f"embedder  {loaded_embedder.name}, {loaded_embedder.dim} dimensions", markup=False)
    if loaded_refiner is not None:
        console.print(f"refiner   {loaded_refiner.name}", markup=False)
    return 0
