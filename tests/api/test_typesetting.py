"""Captions: each character has a glyph, lines run in their direction, and long ones keep both ends."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features
from tests.conftest import Tried
from tests.core.media.making import make_case

from segdex.render import typesetting
from segdex.render.bidi import drawn_backwards, levels_of, visual_order
from segdex.render.drawing import SheetRow, Tile, contact_sheet
from segdex.render.typesetting import Typesetter, clusters_of, font_of, readable

SCRIPTS = {
    "Latin": "café Ångström Tiếng Việt",
    "Cyrillic": "кошка їжак",
    "Greek": "γάτα",
    "Chinese": "火箭",
    "Japanese": "ロケット ねこ",
    "Korean": "고양이 사진",
    "Arabic": "لوتس گربه",
    "Hebrew": "חתול",
    "Devanagari": "हिन्दी चित्र क्षत्रिय",
    "Bengali": "বাংলা ছবি",
    "Tamil": "தமிழ் படம்",
    "Telugu": "తెలుగు",
    "Kannada": "ಕನ್ನಡ",
    "Malayalam": "മലയാളം",
    "Gujarati": "ગુજરાતી",
    "Gurmukhi": "ਪੰਜਾਬੀ",
    "Oriya": "ଓଡ଼ିଆ",
    "Sinhala": "සිංහල",
    "Thai": "แมวน้ำ",
    "Lao": "ລາວ",
    "Khmer": "ខ្មែរ",
    "Burmese": "မြန်မာ",
    "Ethiopic": "አማርኛ",
    "Georgian": "ქართული",
    "Armenian": "Հայերեն",
    "emoji": "🐶‍❤ 👩‍👩‍👧 👍🏽 🇫🇷",
    "signs": "→ ✓ ★ € № … � ≤",
}
SIZE_PX = 32


def glyph(font: ImageFont.FreeTypeFont, character: str) -> bytes:
    mask = font.getmask(character)
    return bytes(mask) + bytes(mask.size)


@pytest.mark.parametrize("shapes", [False, True])
@pytest.mark.promise(
    "Pictures", "Captions of contact sheets are drawn in every usual script, never as boxes."
)
def test_no_character_of_a_script_is_drawn_as_a_box(shapes: bool, tried: Tried) -> None:
    if shapes and not features.check("raqm"):
        pytest.skip("Pillow finds no FriBiDi here")
    setter, boxes = Typesetter(shapes=shapes), []
    for script, text in SCRIPTS.items():
        for run in setter.runs(text):
            shown, font, _ = setter.how(run, SIZE_PX)
            plain = ImageFont.truetype(font.path, SIZE_PX, layout_engine=ImageFont.Layout.BASIC)
            box = glyph(plain, "\uffff")
            boxes += [
                (script, character)
                for character in shown
                if unicodedata.category(character) != "Cf"
                and not "\ufe00" <= character <= "\ufe0f"
                and glyph(plain, character) == box
            ]

    tried(len(SCRIPTS), "scripts", lost=len(boxes))
    assert boxes == []


def test_the_ranges_of_the_fonts_are_those_of_their_files() -> None:
    for name, (firsts, lasts) in typesetting.coverage().items():
        font = ImageFont.truetype(typesetting.FONTS / name, 12, layout_engine=ImageFont.Layout.BASIC)
        box = glyph(font, "\uffff")
        for first, last in list(zip(firsts, lasts, strict=True))[::7]:
            for code in {first, last}:
                if unicodedata.category(chr(code)) not in ("Zs", "Cf", "Mn", "Cc"):
                    assert glyph(font, chr(code)) != box, (name, hex(code))


def test_the_names_of_the_case_are_drawn_with_their_own_letters(tmp_path: Path) -> None:
    names = [path.name for path in make_case("44", tmp_path).iterdir()]

    assert len(names) == 4
    assert [readable(name) for name in names] == names
    assert all(font_of(character) for name in names for character in name)


def test_what_no_font_has_is_written_as_letters_or_numbers() -> None:
    assert readable("\U0001d5a2\U0001d5ba\U0001d5cd") == "Cat"  # mathematical letters
    assert readable("\U00012000") == "\\U00012000"  # cuneiform
    assert readable("a\x1b[31m\udce9\n") == "a\ufffd[31m\ufffd\ufffd"


@pytest.mark.parametrize(
    ("text", "is_ltr", "shown"),
    [
        ("abc אבג", True, "abc גבא"),
        ("אבג.jpg  24.5%", True, "גבא.jpg  24.5%"),
        ("אבג.jpg  24.5%", False, "jpg  24.5%.גבא"),
        ("אבג (2).jpg", True, "(2) גבא.jpg"),
        ("אבג abc דה", False, "הד abc גבא"),
        ("אבג abc דה", True, "גבא abc הד"),
        ("אב 12 גד", False, "דג 12 בא"),
        ("abc (אב) def", True, "abc (בא) def"),
        ("אב-גד", False, "דג-בא"),
        ("", True, ""),
    ],
)
def test_a_line_runs_in_the_directions_of_its_scripts(text: str, is_ltr: bool, shown: str) -> None:
    levels = levels_of(text, is_ltr=is_ltr)
    drawn = "".join(drawn_backwards(text[at]) if levels[at] % 2 else text[at] for at in visual_order(levels))

    assert drawn == shown
    runs = Typesetter(shapes=False).runs(text, is_ltr=is_ltr)
    assert "".join(drawn_backwards(run.text) if run.is_rtl else run.text for run in runs) == shown


def test_letters_of_arabic_join_as_raqm_joins_them() -> None:
    if not features.check("raqm"):
        pytest.skip("Pillow finds no FriBiDi here")
    for text in ("لوتس", "لا", "قطة على طاولة", "سلام", "مُدَرِّس"):
        here, there = (Typesetter(shapes=shapes).width_px(text, 64) for shapes in (False, True))

        assert here == pytest.approx(there, rel=0.04), text


@pytest.mark.parametrize(
    "text",
    [
        "a-very-long-name-of-a-picture-whose-end-says-which-one-it-is-0417.jpg  24.5%",
        "очень-длинное-имя-" * 9 + "конец.jpg",
        "صورة " * 40 + "نهاية.jpg",
        "👩‍👩‍👧" * 60,
        "e\u0301" * 200,
        "x" * 100_000,
    ],
    ids=len,
)
@pytest.mark.parametrize("width_px", [60, 220])
def test_a_long_line_loses_its_middle_and_stays_within_its_tile(text: str, width_px: int) -> None:
    setter = Typesetter()
    shown = setter.fitted(text, size_px=14, width_px=width_px, is_ltr=True)
    head, _, tail = shown.partition("…")
    clusters = list(clusters_of(text))

    assert setter.width_px(shown, 14, is_ltr=True) <= width_px
    assert head
    assert text.startswith(head)
    assert text.endswith(tail)
    assert list(clusters_of(head)) == clusters[: len(list(clusters_of(head)))]  # no joined emoji is torn
    assert tail or width_px == 60
    canvas = Image.new("RGB", (width_px + 40, 40))
    setter.draw(ImageDraw.Draw(canvas), shown, xy=(0, 0), size_px=14, fill=(255, 255, 255), is_ltr=True)
    assert not np.asarray(canvas)[:, width_px + 4 :].any()


def test_a_sheet_has_its_captions_in_their_lines() -> None:
    pixels = np.full((90, 120, 3), 90, np.uint8)
    tiles = [Tile(pixels, None, f"1.  0.873\n{text}") for text in SCRIPTS.values()]
    sheet = np.asarray(contact_sheet([SheetRow("кошка", tiles)], title="猫", columns=3, tile_px=128))

    assert (sheet[:, :30] == sheet[0, 0]).all()  # the margins are empty
    assert (sheet[:, -30:] == sheet[0, 0]).all()
