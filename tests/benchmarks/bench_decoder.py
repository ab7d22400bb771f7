"""What a prompt costs: our decoder against the stock ones, same weights, same machine, A B A B.

Run it from the root of the repository: ``python -m tests.benchmarks.bench_decoder [--rounds 5]``
"""

import argparse

import numpy as np
import onnxruntime
import torch
from PIL import Image
from tests.benchmarks.harness import time_in_turn, write_results
from tests.needs import photo
from tests.real_models import onnx_sam2, onnx_sam2_files, sam2_folder

from segdex.core.models.sam2_checkpoint import load_folder
from segdex.core.models.sam2_preprocess import preprocess
from segdex.core.protocols import Prompts
from segdex.ingest.candidates import Floors, decode_near_points, decode_points
from segdex.ingest.prompts import point_grid

_NAMES = ("image_embed", "high_res_feats_0", "high_res_feats_1")
_NO_FLOORS = Floors(predicted_iou=0, stability=0, stability_offset=1)


def main() -> None:
    """Time and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds

    with Image.open(photo("coffee.png")) as opened:
        image = np.array(opened.convert("RGB"))
    size_hw = (image.shape[0], image.shape[1])
    points = point_grid(size_hw, points_per_side=8)
    units = len(points)
    framed = points / np.array([size_hw[1], size_hw[0]], np.float32) * 1024
    labels = np.ones((units, 1), np.int64)

    encoder, decoder = (onnxruntime.InferenceSession(str(path)) for path in onnx_sam2_files())
    outputs = encoder.run(list(_NAMES), {"image": preprocess(image).numpy()})
    arrays = dict(zip(_NAMES, outputs, strict=True))
    stock = load_folder(sam2_folder())
    ours = onnx_sam2()
    [features] = ours.encode([image])

    def stock_onnx() -> None:
        for start in range(0, units, 16):
            part = slice(start, start + 16)
            decoder.run(
                ["masks", "iou_predictions"],
                {
                    **arrays,
                    "point_coords": framed[part, None],
                    "point_labels": labels[part].astype(np.float32),
                    "mask_input": np.zeros((len(framed[part]), 1, 256, 256), np.float32),
                    "has_mask_input": np.zeros(1, np.float32),
                },
            )

    @torch.inference_mode()
    def stock_torch() -> None:
        embed, fine, coarse = (torch.from_numpy(output) for output in outputs)
        for start in range(0, units, 16):
            part = slice(start, start + 16)
            sparse, dense = stock.prompt_encoder(
                input_points=torch.from_numpy(framed[part, None, None]),
                input_labels=torch.from_numpy(labels[part, None]),
                input_boxes=None,
                input_masks=None,
            )
            stock.mask_decoder(
                image_embeddings=embed.expand(len(sparse), -1, -1, -1),
                image_positional_embeddings=stock.get_image_wide_positional_embeddings(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
                high_resolution_features=[fine, coarse],
            )

    def our_decoder() -> None:
        batch = ours.prompts_per_batch(features)
        for start in range(0, units, batch):
            part = slice(start, start + batch)
            ours.decode(features, Prompts(points[part, None], labels[part]))

    def our_candidates() -> None:
        list(decode_points(ours, features, points, floors=_NO_FLOORS))

    def our_candidates_near() -> None:
        dense = point_grid(size_hw, points_per_side=16)
        list(decode_near_points(ours, features, dense, floors=_NO_FLOORS, part_px=96))

    variants = {
        "stock decoder, torch": stock_torch,
        "stock decoder, onnxruntime": stock_onnx,
        "ours": our_decoder,
        "ours, with floors, stability and packing": our_candidates,
    }
    timings = time_in_turn(variants, units=units, rounds=rounds)
    timings += time_in_turn(
        {"the same, in parts of 96 px around the points": our_candidates_near}, units=256, rounds=rounds
    )
    title = "One point prompt on SAM 2 hiera-tiny: three masks of 256x256"
    print(write_results("decoder", title, timings, unit="prompt"))


if __name__ == "__main__":
    main()
