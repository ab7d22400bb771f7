"""``segdex models``: what can be loaded, from where, under which licence."""

from dataclasses import asdict

import typer
from rich.table import Table

from segdex.cli.common import (
    DeviceOption,
    EmbedderOption,
    JsonOption,
    ProfileOption,
    RefinerOption,
    SegmenterOption,
    Session,
    console_err,
    console_out,
    print_json,
    settings_from,
)
from segdex.wiring import DEFAULT_PROFILE, known_models, load_text_segmenter


def register(app: typer.Typer) -> None:
    """Add the commands."""
    models = typer.Typer(help="List and fetch models.", no_args_is_help=True)
    models.command("list")(list_command)
    models.command("pull")(pull_command)
    app.add_typer(models, name="models")


def list_command(as_json: JsonOption = False) -> int:
    """List the models that are known by name."""
    if as_json:
        print_json([asdict(entry) for entry in known_models()])
        return 0
    table = Table(box=None, pad_edge=False)
    for name in ("name", "role", "profiles", "from", "licence", "what"):
        table.add_column(name, no_wrap=True)
    for entry in known_models():
        table.add_row(
            entry.name,
            entry.role,
            ", ".join(entry.profiles()) or "-",
            " + ".join(
                f"{source.kind}:{source.package}{f'@{source.version}' if source.version else ''}"
                for source in entry.sources
            ),
            " + ".join(sorted({source.licence for source in entry.sources})),
            entry.title,
        )
    console_out().print(table)
    return 0


def pull_command(
    context: typer.Context,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    refiner: RefinerOption = None,
    profile: ProfileOption = None,
    device: DeviceOption = None,
) -> int:
    """Fetch the models of a profile and check that they load."""
    settings = settings_from(
        context, profile=profile, device=device, segmenter=segmenter, embedder=embedder, refiner=refiner
    )
    chosen, parts = settings.profile or DEFAULT_PROFILE, Session.of(context).parts
    console = console_out()
    with console_err().status("fetching and loading"):
        loaded_segmenter = parts.load_segmenter(settings, chosen)
        loaded_embedder = parts.load_embedder(settings, chosen)
        name = settings.refiner
        loaded_refiner = None if name is None else load_text_segmenter(settings, name)
    console.print(f"segmenter {loaded_segmenter.name}", markup=False)
    console.print(f"embedder  {loaded_embedder.name}, {loaded_embedder.dim} dimensions", markup=False)
    if loaded_refiner is not None:
        console.print(f"refiner   {loaded_refiner.name}", markup=False)
    return 0
