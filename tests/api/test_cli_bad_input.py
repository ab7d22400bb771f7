"""Each bad input gets one clear line on standard error, its exit code, and no traceback."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tests.fuzz.mutations import png_of

from segdex.cli.main import run
from segdex.wiring import REAL
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import SEGMENT_VIEWS, IndexFingerprint
from segdex_core.settings import Settings


@pytest.fixture(name="filled")
def _filled(tmp_path: Path) -> str:
    """Make an index that some other embedder filled, and return its location."""
    index = QdrantIndex(EdgeStore(tmp_path / "filled", create=True))
    index.ensure(
        IndexFingerprint(profile="offline", embedder="other", dim=4, views=SEGMENT_VIEWS, segmenter="other")
    )
    index.close()
    return f"edge:{tmp_path / 'filled'}"


def _fails(
    capsys: pytest.CaptureFixture[str], arguments: list[str], *, code: int, saying: tuple[str, ...]
) -> None:
    assert run(arguments) == code
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("segdex: ")
    assert "Traceback" not in captured.err
    for part in saying:
        assert part in lines[0], lines[0]


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (["ingest", "no-such-folder"], ("no-such-folder",)),
        (["ingest", "no-such/*.jpg"], ("no-such/*.jpg",)),
        (["ingest", ".", "--limit", "-1"], ("--limit must be 1 or more, but got -1",)),
        (["ingest", ".", "--decode-threads", "0"], ("--decode-threads must be 1 or more", "0")),
        (["ingest", ".", "--max-pixels", "many"], ("--max-pixels must be a valid integer",)),
        (["ingest", ".", "--segments-per-image", "0"], ("--segments-per-image must be between 1", "0")),
        (["ingest", ".", "--points-per-side", "500"], ("--points-per-side must be", "128", "500")),
        (["ingest", ".", "--tag", " "], ("--tag must be 1 to 100 printable characters",)),
        (["ingest", ".", "--select", "best"], ("--select must be one of 'ranked', 'meta', but got 'best'",)),
        (["ingest", ".", "--quality", "meta"], ("--quality", "'fast', 'balanced', 'best'", "meta")),
        (["ingest", ".", "--profile", "big"], ("--profile", "default", "offline")),
        (["label"], ("words or with --from FILE",)),
        (["label", "--list", "cat"], ("--list goes alone",)),
        (["label", "cat", "--author", "model"], ("--author goes with --clear",)),
        (["label", "--clear", "--author", "robot"], ("--author must be some of model, concept, person",)),
        (["label", "--from", "no-such.txt"], ("--from no-such.txt", "No such file")),
        (["label", "cat", "--min-score", "0"], ("--min-score must be above 0, but got 0",)),
        (["label", "cat", "--segment", "17"], ("'17' is no segment id",)),
        (["label", "x" * 101], ("WORD must have 100 characters or less, but got 101 characters",)),
        (["label", "???"], ("a label must have a letter or digit", "???")),
        (["search", "   "], ("empty",)),
        (["search", "x" * 10_000], ("10,000", "1,000")),
        (["search", "a\x07b"], ("U+0007",)),
        (["search"], ("text, a picture or a segment",)),
        (["search", "cat", "--limit", "-3"], ("--limit must be between 1 and 1,000, but got -3",)),
        (["search", "cat", "--per-image", "0"], ("--per-image must be between 1 and 100, but got 0",)),
        (["search", "cat", "--min-area", "7"], ("--min-area must be between 0 and 1, but got 7",)),
        (["search", "cat", "--max-area", "-1"], ("--max-area must be between 0 and 1, but got -1",)),
        (["search", "cat", "--min-score", "nan"], ("--min-score must be a finite number",)),
        (["search", "cat", *["--tag", "t"] * 101], ("--tag must have 100 items or less, but got 101",)),
        (["search", *["--image", "a.txt"] * 5], ("--image must be 4 pictures at most, but got 5",)),
        (["search", "cat", "--since", "yesterday"], ("--since", "2026-11-23")),
        (["search", "cat", "--view", "crop=much"], ("--view must be NAME=WEIGHT", "crop=0.7")),
        (["search", "cat", "--view", "side"], ("--view", "crop, mask")),
        (["search", "cat", "--view", "context=1"], ("--view", "crop, mask")),
        (["search", "cat", "--view", "crop=101"], ("--view crop must be between 0 and 100, but got 101",)),
        (["search", "cat", "--view", "crop=0"], ("--view", "above 0")),
        (["search", "cat", "--level", "half"], ("--level", "'any', 'whole', 'part'", "half")),
        (["search", "???"], ("no word",)),
        (["search", "cat", "--not", "dog", "--negative-weight", "0"], ("--negative-weight must be above 0",)),
        (["search", "cat", "--unlike", "nowhere.jpg"], ("--unlike nowhere.jpg", "neither", "nor a file")),
        (["search", "--unlike", "6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11"], ("text, a picture or a segment",)),
        (["search", "cat", "--diversity", "2"], ("--diversity must be between 0 and 1, but got 2",)),
        (["search", "cat", "--negative", "???"], ("no word",)),
        (["search", "cat", "--weight", "-1"], ("text, a picture or a segment",)),
        (["search", "cat", "--weight", "0"], ("--weight must be between -100 and 100 and not 0, but got 0",)),
        (["search", "cat", "--weight", "nan"], ("--weight must be between", "nan")),
        (["search", "cat", "--weight", "1", "--weight", "2"], ("--weight",)),
        (["search", "--image", "no-such.jpg"], ("--image", "no-such.jpg")),
        (["search", "--segment", "17"], ("17", "segment id")),
        (["search", "cat", "--min-score", "low"], ("--min-score", "a number or auto", "low")),
        (["ingest", ".", "--views", "half"], ("--views must be one of 'crops', 'pooled', but got 'half'",)),
        (["search", "cat", "--refine", "0"], ("--refine must be between 1 and 100, but got 0",)),
        (["search", "cat", "--refine", "101"], ("--refine must be between 1 and 100, but got 101",)),
        (["search", "a\u202eb"], ("U+202E",)),
        (["segment", "no-such.jpg", "--point", "1,1"], ("no-such.jpg",)),
        (["segment", "a.txt", "--point", "1"], ("--point", "X,Y", "'1'")),
        (["segment", "a.txt", "--not-point", "1,b"], ("--not-point", "X,Y")),
        (["segment", "a.txt", "--box", "1,2,3"], ("--box", "X1,Y1,X2,Y2")),
        (["segment", "a.txt", "--text", "cat", "--point", "1,1"], ("--text", "--box")),
        (["show", "17"], ("17", "segment id")),
        (["stats", "--index", "qdrant:6333"], ("--index", "edge:PATH", "http://HOST:PORT")),
        (["stats", "--index", "edge:"], ("--index", "folder")),
        (["stats", "--colour"], ("--colour",)),
        (["ingest", ".", "--device", "tpu"], ("--device", "'auto', 'cpu', 'cuda'", "tpu")),
        (["keys", "me", "--role", "king"], ("--role", "'read', 'write', 'admin'", "king")),
        (["fly"], ("fly",)),
        (["serch", "cat"], ("serch", "'search'")),
        (["jobs", "lst"], ("lst", "'list'")),
    ],
)
def test_a_wrong_request_is_named_with_what_is_allowed(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    saying: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("text")

    _fails(capsys, arguments, code=2, saying=saying)


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        ([], ("--point", "--box")),
        (["--not-point", "1,1"], ("at least one point on it",)),
        (["--box", "9,9,2,2"], ("x1 < x2",)),
        (["--point", "1,1", "--mask", "none.png"], ("--mask", "none.png")),
        (["--point", "1,1", "--mask", "small.png"], ("--mask", "8 x 8", "40 x 30")),
        (["--point", "1,1", "--mask", "empty.png"], ("--mask", "is empty")),
        (["--point", "1,1", "--mask", "a.txt"], ("--mask", "a.txt", "cannot be read")),
        (["--point", "1,1", "--mask", "damaged.ppm"], ("--mask", "damaged.ppm", "cannot be read")),
        (["--point", "1,1", "--mask", "bomb.png"], ("--mask", "bomb.png", "cannot be read")),
        (["--text", "  "], ("empty",)),
        (["--text", "a\u202eb"], ("U+202E",)),
        (["--text", "cat", "--box", "50,50,90,90"], ("--box", "40 x 30")),
    ],
)
def test_a_wrong_prompt_is_named_before_a_model_is_loaded(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    saying: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "damaged.ppm").write_bytes(b"P6 wide high 255 ")
    (tmp_path / "bomb.png").write_bytes(png_of(20_000, 20_000, depth=1))
    for name, size in (("picture.png", (40, 30)), ("small.png", (8, 8)), ("empty.png", (40, 30))):
        Image.new("RGB", size).save(tmp_path / name)

    _fails(capsys, ["segment", "picture.png", *arguments], code=2, saying=saying)


def test_an_empty_folder_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _fails(capsys, ["ingest", str(tmp_path)], code=2, saying=(str(tmp_path), "no file"))


def test_an_index_inside_the_pictures_is_refused(capsys: pytest.CaptureFixture[str], filled: str) -> None:
    folder = Path(filled.removeprefix("edge:"))

    _fails(
        capsys,
        ["ingest", str(folder.parent), "--index", filled],
        code=2,
        saying=("--index", "--exclude filled"),
    )


@pytest.mark.parametrize(
    "command", [["stats"], ["search", "cat"], ["sync"], ["delete", "a.jpg"], ["show", "0" * 32]]
)
def test_a_missing_index_says_how_to_make_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    _fails(
        capsys,
        [*command, "--index", f"edge:{tmp_path / 'none'}"],
        code=3,
        saying=(str(tmp_path / "none"), "segdex ingest"),
    )


def test_an_index_that_is_open_elsewhere_is_locked(capsys: pytest.CaptureFixture[str], filled: str) -> None:
    def open_index(settings: Settings, *, create: bool) -> SegmentIndex:
        return QdrantIndex(EdgeStore(Path(settings.index.removeprefix("edge:")), create=create, wait_s=0))

    with closing(QdrantIndex(EdgeStore(Path(filled.removeprefix("edge:")), create=False))) as index:
        fingerprint = index.fingerprint()
        assert fingerprint is not None
        index.ensure(fingerprint)  # as what is going to write does
        impatient = replace(REAL, open_index=open_index)
        assert run(["stats", "--index", filled], parts=impatient) == 3
        [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"segdex: another process has {filled} open (")
    assert "--server" in line


def test_a_server_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    _fails(capsys, ["stats", "--index", "http://127.0.0.1:9"], code=3, saying=("127.0.0.1:9",))


def test_an_unwritable_index_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "a.txt").write_text("text")

    _fails(
        capsys,
        ["ingest", str(tmp_path / "a.txt"), "--index", f"edge:{tmp_path / 'file' / 'index'}"],
        code=3,
        saying=(str(tmp_path / "file"),),
    )


def test_a_bad_variable_is_named_as_a_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEGDEX_DECODE_THREADS", "lots")
    (tmp_path / "a.txt").write_text("text")

    _fails(
        capsys,
        ["ingest", str(tmp_path)],
        code=2,
        saying=("SEGDEX_DECODE_THREADS must be a whole number", "lots"),
    )


def test_a_segment_or_picture_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], filled: str
) -> None:
    _fails(capsys, ["show", "0" * 32, "--index", filled], code=2, saying=("no segment", filled))
    _fails(capsys, ["delete", "a.jpg", "--index", filled], code=2, saying=("a.jpg", "names no picture"))
