"""Pictures of public reports decode to what a viewer shows."""

import calendar
from pathlib import Path

import pytest
from tests.conftest import Tried
from tests.core.media.making import difference, make_case

from segdex_core.errors import ImageUnreadableError, NotAnImageError
from segdex_core.media.decode import read_image_file


def test_raw_files_of_cameras_are_refused_by_name_and_never_read_as_their_thumbnail(tmp_path: Path) -> None:
    case = make_case("11", tmp_path)

    with pytest.raises(NotAnImageError, match=r"camera RAW \(DNG\) is not read"):
        read_image_file(case / "DSC_0001.DNG")
    with pytest.raises(NotAnImageError, match="camera RAW is not read"):
        read_image_file(case / "DSC_0002.NEF")


@pytest.mark.promise(
    "Pictures", "A picture in ProPhoto, Display P3 or any RGB profile has the colors of its sRGB twin."
)
def test_pictures_with_profiles_have_the_colours_of_their_srgb_twin(tmp_path: Path, tried: Tried) -> None:
    case = make_case("12", tmp_path)
    expected = read_image_file(case / "srgb.jpg").pixels
    others = sorted(path for path in case.iterdir() if path.name != "srgb.jpg")

    assert {path.name: difference(read_image_file(path).pixels, expected) < 3 for path in others} == {
        path.name: True for path in others
    }
    tried(len(others), "pictures with a profile")


def test_cmyk_looks_like_rgb(tmp_path: Path) -> None:
    case = make_case("13", tmp_path)
    expected = read_image_file(case / "rgb.png").pixels

    for name in ("adobe.jpg", "no-marker.jpg", "cmyk.tif"):
        assert difference(read_image_file(case / name).pixels, expected) < 2, name


@pytest.mark.promise(
    "Pictures",
    "A JPEG or PNG that lacks only its end is read; one that lacks more than 2 % of its pixels is refused.",
)
def test_a_file_that_lacks_only_its_end_is_read_and_one_that_lacks_pixels_is_not(
    tmp_path: Path, tried: Tried
) -> None:
    case = make_case("14", tmp_path)
    whole = {name: read_image_file(case / f"{name}-whole.jpg").pixels for name in ("baseline", "progressive")}
    for name, expected in whole.items():
        assert difference(read_image_file(case / f"{name}-no-end-marker.jpg").pixels, expected) == 0
        assert difference(read_image_file(case / f"{name}-zeros-behind.jpg").pixels, expected) == 0
        assert difference(read_image_file(case / f"{name}-minus-20.jpg").pixels, expected) < 0.1
    # Only refinements are missing: all is there, with less detail, and so viewers show it.
    for name, levels in (("half", 4), ("nine-tenths", 1), ("zeros-at-end", 1)):
        coarse = read_image_file(case / f"progressive-{name}.jpg").pixels
        assert difference(coarse, whole["progressive"]) < levels
    assert read_image_file(case / "minus-20.png").pixels.shape == (200, 300, 3)
    for name in ("baseline-half.jpg", "baseline-nine-tenths.jpg", "baseline-zeros-at-end.jpg"):
        with pytest.raises(ImageUnreadableError, match=r"it ends early, and at least \d+% of the pixels"):
            read_image_file(case / name)
    for suffix in ("png", "gif", "webp"):
        with pytest.raises(ImageUnreadableError):
            read_image_file(case / f"nine-tenths.{suffix}")
    tried(16, "files that end early")


@pytest.mark.promise("Pictures", "White art on a transparent ground can be seen.")
def test_white_art_on_transparency_can_be_seen(tmp_path: Path, tried: Tried) -> None:
    case = make_case("15", tmp_path)

    for name in ("white-star.png", "white-disc-grey-alpha.png"):
        pixels = read_image_file(case / name).pixels
        assert pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].tolist() == [255] * 3
        assert pixels[0, 0].tolist() == [40] * 3
    for name in ("black-star.png", "cut-out-cat.png"):
        assert read_image_file(case / name).pixels[0, 0].tolist() == [255] * 3
    assert (read_image_file(case / "all-transparent.png").pixels == 255).all()
    tried(2, "white pictures on transparency")


def test_every_orientation_comes_out_upright_in_every_format(tmp_path: Path) -> None:
    case = make_case("21", tmp_path)
    expected = read_image_file(case / "upright.png").pixels
    turned = sorted(case.glob("orientation-*"))

    assert len(turned) == 40
    for path in turned:
        pixels = read_image_file(path).pixels
        assert pixels.shape == expected.shape, path.name
        assert difference(pixels, expected) < 6, path.name


@pytest.mark.promise("Pictures", "A date that any usual tag has is used before the date of the file.")
def test_the_date_is_read_from_every_usual_tag(tmp_path: Path, tried: Tried) -> None:
    case = make_case("22", tmp_path)
    at = {path.name: read_image_file(path) for path in sorted(case.iterdir())}
    expected = float(calendar.timegm((2015, 7, 4, 10, 0, 0)))
    odd = {"original-minus-0530.jpg", "1950.jpg", "zeros.jpg", "IMG-20150704-WA0001.jpg"}

    assert {name: one.captured_s for name, one in at.items() if name not in odd} == dict.fromkeys(
        at.keys() - odd, expected
    )
    assert at["original-minus-0530.jpg"].captured_s == expected + 5.5 * 3600
    assert at["1950.jpg"].captured_s == float(calendar.timegm((1950, 7, 4, 10, 0, 0)))
    for name in ("zeros.jpg", "IMG-20150704-WA0001.jpg"):
        assert (at[name].captured_s, at[name].captured_from) == (None, None)
    assert at["gps-only.jpg"].captured_from == "gps"
    assert at["date-time-only.jpg"].captured_from == "exif"
    tried(len(at), "pictures with a date in different tags")
