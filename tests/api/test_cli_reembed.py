"""``segdex reembed``: other views or another embedder, exit codes, and what the next commands do."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from tests.api.test_cli_ingest import Desk
from tests.fakes.embedder import ColourEmbedder, PoolingEmbedder
from tests.fakes.segmenter import FloodSegmenter

from segdex.arguments import IngestProgress
from segdex.cli.main import run
from segdex.library import Library
from segdex.wiring import build_settings, open_library
from segdex_core.choices import ProfileName
from segdex_core.errors import IndexMismatchError
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.segmenter import FRAME_PX, ImageFeatures, Segmenter
from segdex_core.records import RGBImage
from segdex_core.settings import Settings
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings

pytestmark = pytest.mark.models

EMBEDDERS: dict[str | None, Embedder] = {
    None: PoolingEmbedder(),
    "coarse": ColourEmbedder(samples_per_side=3),
}


class CountingSegmenter(FloodSegmenter):
    """Counts the pictures that it encodes."""

    encoded = 0

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        self.encoded += len(images)
        return super().encode(images, frame_px=frame_px)


class OtherDesk(Desk):
    """Has two embedders, and counts the pictures that are segmented."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(root, capsys)
        self.segmenter = CountingSegmenter()
        self.parts = replace(
            self.parts,
            load_segmenter=self._load,
            load_embedder=lambda settings, _: EMBEDDERS[settings.embedder],
            make_recipe=self._make,
        )

    def _load(self, settings: Settings, profile: ProfileName) -> Segmenter:
        self.loads += 1
        return self.segmenter

    def _make(
        self, settings: Settings, segmenter: Segmenter, embedder: Embedder, generator: GeneratorSettings
    ) -> Recipe:
        small = replace(generator, points_per_side=3, explained_above=1.0, redraws=False)
        return Recipe(segmenter, embedder, small, settings.views)


@pytest.fixture(name="desk")
def _desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> OtherDesk:
    monkeypatch.setenv("SEGDEX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    desk = OtherDesk(tmp_path, capsys)
    desk.draw("pictures/a.png", "red")
    desk.draw("pictures/b.png", "blue")
    desk.counts()
    return desk


@pytest.mark.parametrize("options", [("--embedder", "coarse"), ("--views", "pooled")])
def test_after_it_the_same_ingest_finds_nothing_to_do_and_no_picture_was_segmented_again(
    desk: OtherDesk, options: tuple[str, ...]
) -> None:
    loads, encoded = desk.loads, desk.segmenter.encoded
    refused = desk_refuses(desk, options)

    planned = desk.ask("reembed", *options, "--dry-run")
    done = desk.ask("reembed", *options)

    assert "segdex reembed" in refused
    assert (planned["to_embed"], planned["switched"]) == (2, False)
    assert planned["estimated_s"] >= 0
    assert (done["images"], done["embedded"], done["switched"], done["missing"]) == (2, 2, True, [])
    assert desk.loads == loads + 1  # by the refused ingest
    assert desk.counts(*options) == {"unchanged": 2}
    assert desk.segmenter.encoded == encoded
    model = options if options[0] == "--embedder" else ()
    assert desk.ask("search", "red", *model)["hits"]
    assert desk.ask("reembed", *options)["nothing_to_do"]
    assert desk.ask("reembed", "--drop-old") == {"schema_version": 1, "sets": 1}
    assert desk.ask("search", "red", *model)["hits"]
    assert desk.counts(*options) == {"unchanged": 2}


def test_a_concept_is_learnt_anew_from_its_marks(desk: OtherDesk) -> None:
    def best(text: str, *model: str) -> tuple[str, str]:
        [hit] = desk.ask("search", text, "--limit", "1", "--per-image", "1", *model)["hits"]
        return str(hit["image"]["id"]), str(hit["segments"][0]["id"])

    (_, red), (picture, blue) = best("red"), best("blue")
    desk.ask("concept", "mark", "mine", "--right", blue, "--wrong", red)
    assert best("concept:mine") == (picture, blue)

    model = ("--embedder", "coarse")
    desk.ask("reembed", *model)
    desk.ask("reembed", "--drop-old")

    assert best("concept:mine", *model)[0] == picture
    assert [one["used_id"] for one in desk.ask("concept", "show", "mine")["marks"]] == [blue, red]


def desk_refuses(desk: OtherDesk, options: tuple[str, ...]) -> str:
    """Ingest with other vectors, also with a yes, and return the line that says why it is refused."""
    arguments = ["--index", desk.index, "ingest", str(desk.root / "pictures"), *options, "--yes"]
    if "--embedder" in options:
        desk.draw("pictures/c.png", "green")
    assert run(arguments, parts=desk.parts) in (2, 3)
    (desk.root / "pictures" / "c.png").unlink(missing_ok=True)
    return desk.capsys.readouterr().err.strip().splitlines()[-1]  # after what was shown of the progress


def test_a_picture_that_is_gone_is_named_and_the_user_chooses(desk: OtherDesk) -> None:
    (desk.root / "pictures" / "b.png").unlink()
    planned = desk.ask("reembed", "--embedder", "coarse", "--dry-run", code=1)

    kept = desk.ask("reembed", "--embedder", "coarse", code=1)
    found = desk.ask("search", "blue")["hits"]
    left_out = desk.ask("reembed", "--embedder", "coarse", "--skip-missing", code=1)

    assert [one["path"] for one in planned["missing"]] == [str(desk.root / "pictures" / "b.png")]
    assert planned["to_embed"] == 1
    assert (kept["embedded"], kept["switched"], len(kept["missing"])) == (1, False, 1)
    assert found  # by the old vectors
    assert (left_out["embedded"], left_out["switched"], len(left_out["missing"])) == (0, True, 1)
    assert desk.ask("stats")["images"] == 1


def say_nothing_there(desk: OtherDesk) -> tuple[int, str]:
    code = run(["--index", f"edge:{desk.root / 'none'}", "reembed"], parts=desk.parts)
    return code, desk.capsys.readouterr().err


def say_both(desk: OtherDesk) -> tuple[int, str]:
    code = run(["--index", desk.index, "reembed", "--drop-old", "--views", "pooled"], parts=desk.parts)
    return code, desk.capsys.readouterr().err


def say_pooled(desk: OtherDesk) -> tuple[int, str]:
    arguments = ["--index", desk.index, "reembed", "--embedder", "coarse", "--views", "pooled"]
    return run(arguments, parts=desk.parts), desk.capsys.readouterr().err


def say_all_gone(desk: OtherDesk) -> tuple[int, str]:
    for path in (desk.root / "pictures").iterdir():
        path.unlink()
    arguments = ["--index", desk.index, "reembed", "--embedder", "coarse", "--skip-missing"]
    return run(arguments, parts=desk.parts), desk.capsys.readouterr().err


@pytest.mark.parametrize(
    ("ask", "code", "words"),
    [
        (say_nothing_there, 3, "there is no index"),
        (say_both, 2, "--drop-old"),
        (say_pooled, 2, "cannot be pooled"),
        (say_all_gone, 2, "is a disk not mounted"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    desk: OtherDesk, ask: Callable[[OtherDesk], tuple[int, str]], code: int, words: str
) -> None:
    before = desk.ask("stats")

    found = ask(desk)

    assert found[0] == code
    assert words in found[1].strip().splitlines()[-1]
    assert desk.ask("stats") == before


def test_the_text_says_what_was_done_and_what_to_do_next(desk: OtherDesk) -> None:
    lines = {}
    for name, arguments in {
        "dry run": ["--embedder", "coarse", "--dry-run"],
        "done": ["--embedder", "coarse"],
        "again": ["--embedder", "coarse"],
        "dropped": ["--drop-old"],
    }.items():
        assert run(["--index", desk.index, "reembed", *arguments], parts=desk.parts) == 0
        lines[name] = desk.capsys.readouterr().out

    assert (
        "2 of 2 pictures would be embedded by colours/1 samples=3 (views: crops), about" in lines["dry run"]
    )
    assert "embedded 2 pictures" in lines["done"]
    assert "--drop-old" in lines["done"]
    assert "have these vectors already" in lines["again"]
    assert "deleted 1 set" in lines["dropped"]


def test_a_library_that_is_open_meanwhile_searches_until_the_switch_and_then_names_the_command(
    desk: OtherDesk,
) -> None:
    """As a service does, whose process alone has an embedded index open."""
    given = {"index": desk.index, "profile": "offline"}
    with open_library(build_settings(embedder="coarse", **given), desk.parts) as library:
        models = open_library(build_settings(**given), desk.parts, has_index=False).models
        searching = library.with_models(models)
        before = scores(searching)
        seen = []

        done = library.reembed(progress=IngestProgress(on_file=lambda _: seen.append(scores(searching))))

        assert done.switched
        assert seen == [before, before]
        with pytest.raises(IndexMismatchError, match="segdex reembed"):
            searching.search("red")
        assert scores(library)
        assert library.drop_old_vectors().sets == 1
        assert scores(library)


def scores(library: Library) -> list[tuple[UUID, float]]:
    return [(hit.id, hit.score) for hit in library.search("red", min_score=-1)]
