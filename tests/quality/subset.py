"""Segments and features of a fixed subset of pictures, so that a ranking is judged without running a model on
them.

    python -m tests.quality.subset DATA

makes ``subset.npz`` anew, where the masks or the classifier changed: 24 of the pictures that nothing was
fitted on, with what the offline profile makes of them. No pixel of them is in it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdex.evaluation.dataset import EvalDataset, choose_source, sample_dataset, sample_images
from segdex.evaluation.load import load_dataset
from segdex_backends.models.conse.embedder import ConseEmbedder
from segdex_core.ids import make_image_id
from segdex_core.masks import MaskRLE, decode_mask, mask_box, rle_area_px
from segdex_core.media.decode import read_image_file
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import SEGMENT_VIEWS, ImageFile, ImageRecord, IndexFingerprint, Segment
from segdex_ingest.analyse import build_records
from segdex_ingest.masks.tree import find_parents
from segdex_ingest.views import mask_view, region_share, segment_views

HERE = Path(__file__).parent
SUBSET = HERE / "subset.npz"
PICTURES, HELD_OUT = 24, 40

_LEVELS = 15
"""Of a stored feature, beside 0. With 255 the file has 4.8 MB in place of 2.5, and mAP is .305 with both."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SubsetImage:
    """A picture of the subset: n segments, and the features of each view of them.

    Attributes:
        name: In the data set.
        masks: n masks of its size.
        object_scores: (n,)
        features: By kind (crop, blur, region) (n, 1280); ``image`` has one row.
    """

    name: str
    masks: Sequence[MaskRLE]
    object_scores: Floats
    features: dict[str, Floats]


def subset_of(dataset: EvalDataset) -> EvalDataset:
    """Return the pictures of the subset: some of those that no ranker was fitted on."""
    held_out = {one.name for one in sample_images(choose_source(dataset, None).images, HELD_OUT)}
    images = tuple(one for one in dataset.images if one.name in held_out)
    return sample_dataset(replace(dataset, images=images), PICTURES, seed=1)


def features_of(
    name: str, image_path: Path, segments: Sequence[Segment], embedder: ConseEmbedder
) -> SubsetImage:
    """Return what the embedder's classifier sees of the segments of a picture."""
    pixels = read_image_file(image_path).pixels
    rows = embedder.image_features([pixels, *segment_views(pixels, segments)])
    count = len(segments)
    return SubsetImage(
        name=name,
        masks=[one.mask for one in segments],
        object_scores=np.array([one.object_score for one in segments], np.float32),
        features={
            "image": rows[:1],
            "crop": rows[1 : 1 + count],
            "blur": rows[1 + count :],
            "region": embedder.region_features(pixels, [decode_mask(one.mask) for one in segments]),
        },
    )


def save(images: Sequence[SubsetImage], path: Path) -> None:
    """Write the subset; features in 4 bits, each number on a scale of its own."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "names": np.array([one.name for one in images]),
        "counts": np.array([len(one.masks) for one in images]),
        "sizes_hw": np.array([one.masks[0].size_hw for one in images]),
        "rles": np.array("\n".join(mask.counts for one in images for mask in one.masks)),
        "object_scores": np.concatenate([one.object_scores for one in images]).astype(np.float16),
    }
    for kind in images[0].features:
        rows = np.concatenate([one.features[kind] for one in images])
        scale = np.maximum(rows.max(axis=0), 1e-6) / _LEVELS
        arrays[kind], arrays[f"{kind}_scale"] = np.round(rows / scale).astype(np.uint8), scale
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> list[SubsetImage]:
    """Return what ``save`` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    rles = str(arrays["rles"]).split("\n")
    images, first = [], 0
    for place, (name, count) in enumerate(zip(arrays["names"], arrays["counts"].tolist(), strict=True)):
        rows = slice(first, first + count)
        height, width = arrays["sizes_hw"][place].tolist()
        features = {
            kind: arrays[kind][rows].astype(np.float32) * arrays[f"{kind}_scale"]
            for kind in ("crop", "blur", "region")
        }
        features["image"] = arrays["image"][place : place + 1].astype(np.float32) * arrays["image_scale"]
        images.append(
            SubsetImage(
                name=str(name),
                masks=[MaskRLE((height, width), counts) for counts in rles[rows]],
                object_scores=arrays["object_scores"][rows].astype(np.float32),
                features=features,
            )
        )
        first += count
    return images


def fill(index: SegmentIndex, images: Sequence[SubsetImage], embedder: ConseEmbedder) -> dict[str, str]:
    """Write the subset into an empty index as an ingest would, and return the hash of each picture by
    name."""
    index.ensure(
        IndexFingerprint(
            profile="offline",
            embedder=embedder.fingerprint,
            dim=embedder.dim,
            views=SEGMENT_VIEWS,
            segmenter="subset",
        )
    )
    digests = {}
    for one in images:
        digests[one.name] = digest = sha256(one.name.encode()).hexdigest()
        vectors = {kind: embedder.vectors_of_features(rows) for kind, rows in one.features.items()}
        parents = find_parents(one.masks, min_containment=0.9)
        segments = [
            Segment(
                box=mask_box(decode_mask(mask)),
                mask=mask,
                area_px=rle_area_px(mask),
                predicted_iou=1.0,
                stability=1.0,
                score=float(score),
                object_score=float(score),
                parent=parent,
            )
            for mask, score, parent in zip(one.masks, one.object_scores, parents, strict=True)
        ]
        height, width = one.masks[0].size_hw
        record = ImageRecord(
            image_id=make_image_id(digest),
            sha256=digest,
            size_bytes=1,
            files=(ImageFile(f"file:///subset/{one.name}", 0),),
            width=width,
            height=height,
            captured_s=0.0,
            place_lat_lon=None,
            tags=(),
            status="done",
            segment_count=len(segments),
            recipe="subset",
        )
        views = {
            "crop": vectors["crop"],
            "mask": mask_view(vectors["blur"], vectors["region"], share=region_share(embedder)),
        }
        index.upsert_segments(build_records(segments, views, record))
        index.upsert_image(record, vectors["image"])
    return digests


def main() -> None:
    """Segment and embed the pictures, and write the subset."""
    from segdex.wiring import REAL, build_settings, open_library
    from segdex_ingest.analyse import segment_image
    from segdex_ingest.masks.generate import preset

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    settings = build_settings(profile="offline")
    recipe = open_library(settings, REAL, has_index=False).models.recipes(preset("balanced")).load()
    if not isinstance(recipe.embedder, ConseEmbedder):
        raise TypeError("the offline profile embeds with ConSE")
    images = []
    for image in subset_of(load_dataset(arguments.data)).images:
        segments = segment_image(read_image_file(image.path).pixels, recipe)
        images.append(features_of(image.name, image.path, segments, recipe.embedder))
        print(f"{image.name}: {len(segments)} segments", flush=True)
    save(images, SUBSET)
    print(f"{SUBSET}: {len(images)} pictures, {SUBSET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
