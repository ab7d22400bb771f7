"""Several threads may share one model: each gets what it gets alone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tests.backends.models.tiny_sam2 import tiny_sam2
from tests.fakes.embedder import TINY_OPEN_CLIP, write_tiny_open_clip

from segdex_backends.models.open_clip.embedder import OpenClipEmbedder
from segdex_backends.models.sam2.segmenter import TorchSam2
from segdex_core.ports.prompts import FOREGROUND, Prompts
from segdex_core.records import RGBImage

IMAGES = [
    np.random.default_rng(seed).integers(0, 256, (30 + 7 * seed, 50, 3)).astype(np.uint8) for seed in range(8)
]


def test_two_threads_get_the_masks_that_each_gets_alone() -> None:
    def load() -> TorchSam2:
        return TorchSam2(tiny_sam2(), name="tiny", weights_id="tiny", device="cpu", precision="fp32")

    def masks(segmenter: TorchSam2, image: RGBImage) -> bytes:
        [features] = segmenter.encode([image], frame_px=256)
        points = np.array([[[5, 5]], [[20, 20]]], np.float32)
        return segmenter.decode(features, Prompts(points, np.full((2, 1), FOREGROUND))).logits.tobytes()

    shared, alone = load(), load()
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        expected = [pool.submit(masks, alone, image).result() for image in IMAGES]
        found = list(pool.map(lambda image: masks(shared, image), IMAGES))

    assert found == expected
    assert len(set(found)) == len(IMAGES)


def test_two_threads_get_the_vectors_that_each_gets_alone(tmp_path: Path) -> None:
    embedder = OpenClipEmbedder.load(TINY_OPEN_CLIP, pretrained=str(write_tiny_open_clip(tmp_path)))
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        expected = [pool.submit(embedder.embed_images, [image]).result() for image in IMAGES]
        found = list(pool.map(lambda image: embedder.embed_images([image]), IMAGES))

    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))
