"""Near-duplicates: which pairs of different pictures pass their two tests, and which copies do not.

    python -m tests.quality.near_duplicates DATA edge:INDEX
    python -m tests.quality.near_duplicates DATA edge:INDEX --pictures 32 --segmented 3   # faster

Different pictures are all pairs of the index. Copies are made of its pictures (``COPIES``): ``--pictures`` of
them are embedded for the cosine of the whole pictures, and ``--segmented`` of them are ingested with their
copies into an index of their own, with quality ``fast`` and pooled views, for the layouts too (5 to 9 CPU
seconds for each picture and copy). The threshold of the layouts that other pictures choose is tested on each
picture in turn. Intervals resample the pictures.
"""

import argparse
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance
from tests.quality.pictures import image_ids_of, written

from segdex.evaluation.load import load_dataset
from segdex.wiring import REAL, build_settings, load_embedder, open_index, open_library, profile_of
from segdex_core.media.decode import read_image_file
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader
from segdex_core.settings import Settings
from segdex_search.arrange import NEAR_COSINE, NEAR_LAYOUT, layout_agreement, layouts

COSINES = (0.98, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Thresholds of the cosine that are compared."""

ORIGINAL = "original"

_STRIDE = 23  # a prime, so that pictures come twice only where their number is a multiple of it

Floats = npt.NDArray[np.float64]
Copy = Callable[[Image.Image, np.random.Generator], Image.Image]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The pairs of some pictures.

    Attributes:
        names: (name, name) of n pairs of files, each pair once.
        cosine: (n,) cosines of the whole pictures.
        agreement: (n,) agreements of their layouts, 0 to 1.
    """

    names: Sequence[tuple[str, str]]
    cosine: Floats
    agreement: Floats

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Pairs":
        """Return some of the pairs."""
        names = [pair for pair, keep in zip(self.names, chosen, strict=True) if keep]
        return Pairs(names, self.cosine[chosen], self.agreement[chosen])


def half_size(image: Image.Image, _: np.random.Generator) -> Image.Image:
    """Return an image with half of each side."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """Return an image as JPEG keeps it."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def cut(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """Return a part of an image with a share of each side, anywhere in it."""
    width, height = int(image.width * share), int(image.height * share)
    x, y = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return image.crop((x, y, x + width, y + height))


def shot_again(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return an image turned by up to 2 degrees, cut, up to 8 % brighter or darker, and compressed."""
    turned = image.rotate(float(rng.uniform(-2, 2)), Image.Resampling.BICUBIC)
    lit = ImageEnhance.Brightness(cut(turned, 0.92, rng)).enhance(float(rng.uniform(0.92, 1.08)))
    return compressed(lit, 85)


COPIES: Mapping[str, Copy] = {
    "half size": half_size,
    "JPEG quality 20": lambda image, _: compressed(image, 20),
    "1.3 x as bright": lambda image, _: ImageEnhance.Brightness(image).enhance(1.3),
    "cut to .95": lambda image, rng: cut(image, 0.95, rng),
    "cut to .9": lambda image, rng: cut(image, 0.9, rng),
    "cut to .8": lambda image, rng: cut(image, 0.8, rng),
    "shot again": shot_again,
}
"""What makes a near-duplicate of an image, by name."""


def copies_of(path: Path, *, seed: int) -> dict[str, Image.Image]:
    """Return an image and the near-duplicates that are made of it, by name."""
    image = Image.fromarray(read_image_file(path).pixels)
    rng = np.random.default_rng(seed)
    return {ORIGINAL: image, **{name: make(image, rng) for name, make in COPIES.items()}}


def pairs_of(index: IndexReader) -> Pairs:
    """Return all pairs of pictures of an index, as ``collapse_duplicates`` compares them."""
    images = list(index.scroll_images())
    stored = index.get_image_vectors([image.image_id for image in images])
    boxes = layouts(images, index)
    names = [image.files[0].uri.rsplit("/", 1)[1] for image in images]
    pairs = list(combinations(range(len(images)), 2))
    ids = [image.image_id for image in images]
    return Pairs(
        [(names[a], names[b]) for a, b in pairs],
        np.array([float(stored[ids[a]] @ stored[ids[b]]) for a, b in pairs]),
        np.array([layout_agreement(boxes[ids[a]], boxes[ids[b]]) for a, b in pairs]),
    )


def measure_different(pairs: Pairs) -> None:
    """Print how many pairs of different pictures pass the tests."""
    alike, same = pairs.cosine >= NEAR_COSINE, pairs.agreement >= NEAR_LAYOUT
    print(f"{len(pairs.names)} pairs of different pictures")
    for threshold in COSINES:
        print(f"    cosine {threshold} or more: {int((pairs.cosine >= threshold).sum())}")
    print(
        f"    layouts agree by {NEAR_LAYOUT} or more: {int(same.sum())}, at most {pairs.agreement.max():.3f}"
    )
    most = np.sort(pairs.agreement[alike])[::-1][:5]
    print(f"    cosine {NEAR_COSINE} or more and layouts too: {int((alike & same).sum())}", flush=True)
    print(f"    largest agreements with such a cosine: {np.round(most, 3).tolist()}", flush=True)


def measure_cosines(
    paths: Mapping[str, Path], image_ids: Mapping[str, UUID], index: IndexReader, embedder: Embedder
) -> None:
    """Print the share of copies that pass each cosine.

    Args:
        paths: Files of the pictures by name.
        image_ids: Their ids in the index by name.
        index: Index with the vectors of the whole pictures.
        embedder: Embedder that filled it.
    """
    stored = index.get_image_vectors([image_ids[name] for name in paths])
    cosines: dict[str, list[float]] = {name: [] for name in COPIES}
    for seed, (file, path) in enumerate(paths.items()):
        made = copies_of(path, seed=seed)
        rows = embedder.embed_images([np.asarray(made[name]) for name in COPIES])
        for name, cosine in zip(COPIES, (rows @ stored[image_ids[file]]).tolist(), strict=True):
            cosines[name].append(cosine)
    print(f"copies of {len(paths)} pictures: share with a cosine of {', '.join(map(str, COSINES))} or more")
    for name, found in cosines.items():
        shares = [written([float(one >= least) for one in found], list(paths), digits=2) for least in COSINES]
        print(f"    {name:16}", *shares, flush=True)


def segmented_pairs(paths: Mapping[str, Path], settings: Settings, folder: Path) -> Pairs:
    """Return the pairs of pictures and their copies, ingested with quality ``fast``.

    Args:
        paths: Files of the pictures by name.
        settings: Settings with the models.
        folder: Folder for the copies and their index; what an earlier run segmented there is kept.

    Returns:
        Pairs of files, each named by picture and copy with a ``/`` in between.
    """
    (folder / "copies").mkdir(parents=True, exist_ok=True)
    names: dict[str, str] = {}
    for seed, (name, path) in enumerate(paths.items()):
        for number, (kind, image) in enumerate(copies_of(path, seed=seed).items()):
            file = f"{seed}-{number}.png"  # without loss, so that only the copy itself differs
            image.save(folder / "copies" / file, compress_level=1)
            names[file] = f"{name}/{kind}"
    location = settings.model_copy(update={"index": f"edge:{folder / 'index'}", "views": "pooled"})
    with open_library(location, REAL) as library:
        library.ingest(*(folder / "copies" / file for file in names), quality="fast")
        pairs = pairs_of(library.index)
    pairs = pairs.only(np.array([a in names and b in names for a, b in pairs.names]))
    if len({name for pair in pairs.names for name in pair}) != len(names):
        raise SystemExit(f"{folder} lacks copies: an ingest failed, or two are equal byte by byte")
    return Pairs([(names[a], names[b]) for a, b in pairs.names], pairs.cosine, pairs.agreement)


def best_threshold(copies: Floats, different: Floats) -> float:
    """Return the threshold with the largest difference of the shares of copies and of others that reach it.

    Of several best intervals of thresholds, the middle of the highest one is returned.

    Args:
        copies: (n,) values of copies, which should reach it.
        different: (m,) values of others, which should not.
    """
    values = np.unique(np.concatenate([copies, different]))
    between = (values[:-1] + values[1:]) / 2
    gains = (copies[:, None] >= between).mean(axis=0) - (different[:, None] >= between).mean(axis=0)
    best = np.flatnonzero(gains >= gains.max() - 1e-12)[-1]
    return float(between[best])


def measure_layouts(made: Pairs, different: Pairs) -> None:
    """Print which copies pass both tests, with the shipped threshold and with the ones of other pictures.

    Args:
        made: Pairs of pictures and their copies.
        different: Pairs of different pictures of the index.
    """
    from scipy.stats import binomtest  # seconds to import, which the tests of this module do not need

    owners = [(a.rpartition("/")[0], b.rpartition("/")[0]) for a, b in made.names]
    kinds = [{a.rpartition("/")[2], b.rpartition("/")[2]} for a, b in made.names]
    is_copy = np.array(
        [one == other and ORIGINAL in kind for (one, other), kind in zip(owners, kinds, strict=True)]
    )
    others = made.only(np.array([one != other for one, other in owners]))
    copies = made.only(is_copy)
    pictures = [owner for (owner, _), keep in zip(owners, is_copy, strict=True) if keep]
    of_kind = [next(iter(kind - {ORIGINAL})) for kind, keep in zip(kinds, is_copy, strict=True) if keep]
    alike = different.agreement[different.cosine >= NEAR_COSINE]
    chosen = {
        name: best_threshold(copies.agreement[np.array([one != name for one in pictures])], alike)
        for name in sorted(set(pictures))
    }
    held_out = copies.agreement >= np.array([chosen[name] for name in pictures])
    shipped = copies.agreement >= NEAR_LAYOUT
    near = copies.cosine >= NEAR_COSINE
    both = (others.cosine >= NEAR_COSINE) & (others.agreement >= NEAR_LAYOUT)
    print(f"{len(chosen)} pictures, segmented with {len(copies.names)} copies")
    print(f"    best layout threshold of all: {best_threshold(copies.agreement, alike):.3f}")
    print(f"    of all but one picture: {', '.join(f'{one:.3f}' for one in chosen.values())}")
    print(f"    {len(others.names)} pairs of different ones here: {int(both.sum())} pass both tests")
    for title, passed in (
        (f"layout missed at {NEAR_LAYOUT}", shipped),
        ("layout missed, threshold of other pictures", held_out),
        (f"cosine missed at {NEAR_COSINE}", near),
        ("either missed, as shipped", shipped & near),
    ):
        missed = {name for name, ok in zip(pictures, passed, strict=True) if not ok}
        bounds = binomtest(len(missed), len(chosen)).proportion_ci()
        print(
            f"    {title}: {written((~passed).astype(float).tolist(), pictures, digits=2)} of the copies, in"
        )
        print(
            f"        {len(missed)} of the pictures ({bounds.low:.2f} to {bounds.high:.2f}, Clopper-Pearson)"
        )
    for kind in COPIES:
        rows = [i for i, one in enumerate(of_kind) if one == kind]
        print(
            f"    {kind:16} agreement {', '.join(f'{copies.agreement[i]:.2f}' for i in rows)};"
            f" cosine {', '.join(f'{copies.cosine[i]:.2f}' for i in rows)}",
            flush=True,
        )


def spread(paths: Mapping[str, Path], count: int) -> dict[str, Path]:
    """Return some of the pictures, far apart in their order; fewer pictures are the first of more."""
    names = list(paths)
    order = dict.fromkeys(place * _STRIDE % len(names) for place in range(count))
    return {names[place]: paths[names[place]] for place in order}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("index")
    parser.add_argument("--pictures", type=int, default=64, help="Pictures whose copies are embedded.")
    parser.add_argument("--segmented", type=int, default=6, help="Pictures whose copies are segmented.")
    parser.add_argument("--folder", type=Path, help="Where segmented copies stay; a later run goes on there.")
    given = parser.parse_args()
    settings = build_settings(index=given.index)
    index = open_index(settings, create=False)
    try:
        paths = {image.path.name: image.path for image in load_dataset(given.data).images}
        image_ids = image_ids_of(index)
        profile = profile_of(settings, index)
        different = pairs_of(index)
        measure_different(different)
        if given.pictures:
            embedder = load_embedder(settings, profile)
            measure_cosines(spread(paths, given.pictures), image_ids, index, embedder)
    finally:
        index.close()
    if given.segmented:
        models = settings.model_copy(update={"profile": profile})
        chosen = spread(paths, given.segmented)
        with tempfile.TemporaryDirectory() as temporary:
            made = segmented_pairs(chosen, models, given.folder or Path(temporary))
        measure_layouts(made, different)


if __name__ == "__main__":
    main()
