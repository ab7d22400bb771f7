"""A whole ingest, pictures a second: segdex against the script that a user would write.

The script is Meta's ``SAM2AutomaticMaskGenerator`` with its defaults, a loop of crops, the embedder called
with one crop at a time, and ``QdrantClient(path=...)``. Every run is a process of its own; the two sides run
in turn, A B A B. Run it from the root of the repository, with the ``reference`` extra installed, on a quiet
machine::

    python -m tests.benchmarks.bench_ingest DATA [--ours 8] [--script 1] [--rounds 2] [--workers 1,2]
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.benchmarks.harness import RESULTS, describe_machine
from tests.real_models import onnx_sam2_files, sam2_folder

from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.models.devices import fastest_precision
from segdex_backends.models.sam2.onnx_loader import load_onnx_weights
from segdex_backends.sources.files import FileSource
from segdex_core.media.decode import read_image_file
from segdex_core.media.uris import canonical_uri
from segdex_core.ports.embedder import Embedder
from segdex_core.records import RGBImage
from segdex_ingest.analyse import Recipe, embed_image, segment_image
from segdex_ingest.masks.generate import GeneratorSettings, preset
from segdex_ingest.run import IngestOptions, ingest_into

EMBEDDERS = ("conse", "clip-random")


def make_embedder(kind: str, folder: Path) -> Embedder:
    """Return the offline embedder, or OpenCLIP's ViT-B/32 with random weights, for timing alone."""
    if kind == "conse":
        from segdex_backends.models.conse.embedder import ConseEmbedder

        return ConseEmbedder.load()
    import open_clip

    from segdex_backends.models.open_clip.embedder import OpenClipEmbedder

    logging.disable(logging.WARNING)  # open_clip warns of random weights
    checkpoint = folder / "random.pt"
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), checkpoint)
    return OpenClipEmbedder.load("ViT-B-32", pretrained=str(checkpoint))


def run_ours(
    paths: list[Path], folder: Path, *, embedder: str, workers: int, settings: GeneratorSettings
) -> dict[str, float]:
    """Ingest with ``ingest_into``; before the clock starts, one small picture has been analysed."""
    segmenter = load_onnx_weights(*onnx_sam2_files(), precision=fastest_precision("cpu"))
    recipe = Recipe(segmenter, make_embedder(embedder, folder), settings)
    torch.set_num_threads(max((os.cpu_count() or 1) // workers, 1))
    embed_image(_small_picture(), segment_image(_small_picture(), recipe), recipe.embedding)
    index = QdrantIndex(EdgeStore(folder / "index", create=True))
    cpu, wall = time.process_time(), time.perf_counter()
    report = ingest_into(
        index,
        recipe,
        [canonical_uri(path) for path in paths],
        source=FileSource(),
        profile="bench",
        options=IngestOptions(max_pixels=10**8, max_bytes=10**9, analysis_threads=workers),
    )
    figures = _figures(cpu, wall, pictures=len(paths), segments=report.segments)
    index.close()
    return figures


def run_script(paths: list[Path], folder: Path, *, embedder: str) -> dict[str, float]:
    """Do the same as a user would without segdex."""
    from qdrant_client import QdrantClient, models
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
    from tests.reference.meta_sam2 import build_meta_sam2

    generator = SAM2AutomaticMaskGenerator(build_meta_sam2(sam2_folder()), output_mode="coco_rle")
    model = make_embedder(embedder, folder)
    model.embed_images([_small_picture()])
    client = QdrantClient(path=str(folder / "qdrant"))
    vectors = models.VectorParams(size=model.dim, distance=models.Distance.COSINE)
    client.create_collection("segments", vectors_config=vectors)
    cpu, wall = time.process_time(), time.perf_counter()
    segments = 0
    for path in paths:
        pixels = read_image_file(path).pixels
        with torch.inference_mode():
            found = generator.generate(pixels)
        points = []
        for mask in found:
            x, y, width, height = (int(value) for value in mask["bbox"])
            crop = np.ascontiguousarray(pixels[y : y + height + 1, x : x + width + 1])
            payload = {
                "image": path.name,
                "box": [x, y, width, height],
                "rle": mask["segmentation"]["counts"],
            }
            vector = model.embed_images([crop])[0].tolist()
            points.append(models.PointStruct(id=segments, vector=vector, payload=payload))
            segments += 1
        if points:
            client.upsert("segments", points)
    figures = _figures(cpu, wall, pictures=len(paths), segments=segments)
    client.close()
    return figures


def _small_picture() -> RGBImage:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)


def _figures(cpu: float, wall: float, *, pictures: int, segments: int) -> dict[str, float]:
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "pictures": pictures,
        "segments": segments,
        "wall_s": round(wall / pictures, 2),
        "cpu_s": round(cpu / pictures, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def run_in_child(variant: str, arguments: argparse.Namespace, *, pictures: int) -> dict[str, Any]:
    """Return what a process of its own measured."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.bench_ingest", str(arguments.data)]
    command += ["--child", variant, "--ours", str(pictures)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _child(variant: str, paths: list[Path]) -> None:
    side, embedder, workers, quality = variant.split("/")
    with tempfile.TemporaryDirectory() as name:
        if side == "script":
            figures = run_script(paths, Path(name), embedder=embedder)
        else:
            settings = preset(quality)  # type: ignore[arg-type] # it says itself what is allowed
            figures = run_ours(paths, Path(name), embedder=embedder, workers=int(workers), settings=settings)
    print(json.dumps(figures))


def table(runs: list[dict[str, Any]]) -> str:
    """Return the Markdown table: every run, and pictures a second of its best."""
    columns = ("variant", "round", "pictures", "segments", "wall_s", "cpu_s", "peak_mib")
    names = ("variant", "round", "pictures", "segments", "wall s a picture", "CPU s a picture", "peak MiB")
    lines = ["| " + " | ".join((*names, "pictures/s")) + " |", "| --- " * (len(names) + 1) + "|"]
    for run in runs:
        cells = [*(str(run[column]) for column in columns), f"{1 / run['wall_s']:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run both sides in turn, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="A folder of pictures.")
    parser.add_argument("--ours", type=int, default=8, help="Pictures for segdex.")
    parser.add_argument("--script", type=int, default=1, help="Pictures for the script; 0 leaves it out.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", default=str(min(os.cpu_count() or 1, 4)))
    parser.add_argument("--quality", default="balanced", help="Presets, separated by commas.")
    parser.add_argument("--embedders", default=",".join(EMBEDDERS))
    parser.add_argument("--dry", action="store_true", help="Only print the table.")
    parser.add_argument("--child")
    arguments = parser.parse_args()
    if arguments.child:
        _child(arguments.child, sorted(arguments.data.iterdir())[: arguments.ours])
        return
    variants = []
    for embedder in arguments.embedders.split(","):
        variants += [
            (f"segdex/{embedder}/{workers}/{quality}", arguments.ours)
            for workers in arguments.workers.split(",")
            for quality in arguments.quality.split(",")
        ]
        variants += [(f"script/{embedder}/1/meta", arguments.script)] if arguments.script else []
    runs = []
    for number in range(1, arguments.rounds + 1):
        for variant, pictures in variants:
            figures = run_in_child(variant, arguments, pictures=pictures)
            runs.append({"variant": variant, "round": number, **figures})
            print(runs[-1], file=sys.stderr, flush=True)
    machine = describe_machine()
    title = "# A whole ingest: segdex and a plain script; embedder/workers/preset\n\n"
    context = "; ".join(f"{key} {value}" for key, value in machine.items())
    text = f"{title}{table(runs)}\n{context}.\n"
    print(text)
    if not arguments.dry:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "ingest.md").write_text(text)
        (RESULTS / "ingest.json").write_text(json.dumps({"context": machine, "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
