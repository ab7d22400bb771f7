"""``segdex calibrate``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from segdex.cli.common import (
    DeviceOption,
    EmbedderOption,
    IndexOption,
    JsonOption,
    ProfileOption,
    QualityOption,
    SegmenterOption,
    Session,
    console_err,
    console_out,
    print_json,
    settings_from,
)
from segdex.cli.evaluate import DataArgument, ImagesOption, LimitOption, SeedOption
from segdex_core.wording import count_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("calibrate")(calibrate_command)


def calibrate_command(
    context: typer.Context,
    data: DataArgument,
    images: ImagesOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    quality: QualityOption = "balanced",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the calibration without saving it.")
    ] = False,
    as_json: JsonOption = False,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    device: DeviceOption = None,
) -> int:
    """Calibrate the scores of an embedder on labeled pictures, and save the result for later searches.

    The pictures are ingested into the index that `eval search` uses.
    """
    from segdex.arguments import MaskChoices, check_limit
    from segdex.cli.labelled import labelled_index
    from segdex.cli.progress import waiting
    from segdex.evaluation.calibrate import fit_calibration
    from segdex.evaluation.dataset import sample_dataset
    from segdex.evaluation.load import load_dataset
    from segdex.usecases.ingest import generator_of
    from segdex.wiring import calibration_folder
    from segdex_search.calibrate import save_calibration

    settings = settings_from(
        context, profile=profile, index=index, device=device, segmenter=segmenter, embedder=embedder
    )
    check_limit(limit)
    generator = generator_of(MaskChoices(), quality)
    dataset = sample_dataset(load_dataset(data, image_folder=images), limit, seed)
    is_named = index is not None or "index" in Session.of(context).options
    with (
        labelled_index(context, settings, dataset, generator, is_named=is_named) as labelled,
        waiting("calibrating"),
    ):
        embedding = labelled.recipe.embedder
        calibration, weights, rows = fit_calibration(
            dataset,
            index=labelled.index,
            embedder=embedding,
            image_id_by_name=labelled.image_ids,
            judge=labelled.models.judge,
            on_step=lambda line: console_err().print(line, markup=False),
        )
    kept: Path | None = None
    if not dry_run:
        kept = save_calibration(calibration_folder(settings), embedding.fingerprint, calibration)
    if as_json:
        print_json(
            {
                **asdict(calibration),
                "weights": weights,
                "presence": [asdict(row) for row in rows],
                "embedder": embedding.name,
                "file": None if kept is None else str(kept),
            }
        )
        return 0
    console = console_out()
    for name, value in asdict(calibration).items():
        console.print(f"{name:<15} {value:.4g}", markup=False)
    for row in rows:
        console.print(
            f"{count_of(row.pictures, 'picture'):>15}: threshold {row.threshold:.2f}, "
            f'"not there" is said of '
            f"{row.absent_true:.1%} of what is absent and {row.absent_false:.1%} of what is there",
            markup=False,
        )
    console.print("kept nothing" if kept is None else f"kept in {kept}", markup=False)
    return 0
