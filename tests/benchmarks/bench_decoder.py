"""What a picture and a prompt cost: our encoder and decoder against the stock ones, same weights, A B A B.

Run it from the root of the repository: ``python -m tests.benchmarks.bench_decoder [--rounds 5]``
"""

import argparse
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from PIL import Image
from tests.benchmarks.harness import time_in_turn, write_results
from tests.needs import photo
from tests.real_models import onnx_sam2, onnx_sam2_files, sam2_folder
from transformers import Sam2Model

from segdex_backends.models.devices import fastest_precision
from segdex_backends.models.sam2.checkpoint import load_folder
from segdex_backends.models.sam2.loader import load_sam2_weights
from segdex_backends.models.sam2.preprocess import preprocess
from segdex_core.ports.prompts import Prompts
from segdex_core.records import RGBImage
from segdex_core.settings import ModelPrecision
from segdex_ingest.masks.decode import Thresholds, decode_near_points, decode_points
from segdex_ingest.masks.grid import point_grid

_NAMES = ("image_embed", "high_res_feats_0", "high_res_feats_1")
_FRAMES_PX = (1024, 896, 672)
_NO_THRESHOLDS = Thresholds(predicted_iou=0, stability=0, stability_offset=1)


def main() -> None:
    """Time and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds

    with Image.open(photo("coffee.png")) as opened:
        image = np.array(opened.convert("RGB"))
    stock = load_folder(sam2_folder())
    timings = time_in_turn(_encoders(stock, image), units=1, rounds=rounds)
    title = "Encoding one picture with SAM 2 hiera-tiny, resizing included"
    print(write_results("encoder", title, timings, unit="picture"))
    size_hw = (image.shape[0], image.shape[1])
    points = point_grid(size_hw, points_per_side=8)
    units = len(points)
    framed = points / np.array([size_hw[1], size_hw[0]], np.float32) * 1024
    labels = np.ones((units, 1), np.int64)

    encoder, decoder = (onnxruntime.InferenceSession(str(path)) for path in onnx_sam2_files())
    outputs = encoder.run(list(_NAMES), {"image": preprocess(image).numpy()})
    arrays = dict(zip(_NAMES, outputs, strict=True))
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
        list(decode_points(ours, features, points, thresholds=_NO_THRESHOLDS))

    def our_candidates_near() -> None:
        dense = point_grid(size_hw, points_per_side=16)
        list(decode_near_points(ours, features, dense, thresholds=_NO_THRESHOLDS, part_px=96))

    variants = {
        "stock decoder, torch": stock_torch,
        "stock decoder, onnxruntime": stock_onnx,
        "ours": our_decoder,
        "ours, with thresholds, stability and packing": our_candidates,
    }
    timings = time_in_turn(variants, units=units, rounds=rounds)
    timings += time_in_turn(
        {"the same, in parts of 96 px around the points": our_candidates_near}, units=256, rounds=rounds
    )
    title = "One point prompt on SAM 2 hiera-tiny: three masks of 256x256"
    print(write_results("decoder", title, timings, unit="prompt"))


def _encoders(stock: Sam2Model, image: RGBImage) -> dict[str, Callable[[], object]]:
    """Return what to time: the stock encoder, and ours at several frames and in each precision that pays."""

    @torch.inference_mode()
    def encode_stock() -> None:
        fine, middle, _ = stock.vision_encoder(preprocess(image)).fpn_hidden_states
        stock.mask_decoder.conv_s0(fine)
        stock.mask_decoder.conv_s1(middle)

    def encode_ours(precision: ModelPrecision, frame_px: int) -> Callable[[], object]:
        model = models[precision]
        return lambda: model.encode([image], frame_px=frame_px)

    precisions: list[ModelPrecision] = ["fp32"]
    if fastest_precision("cpu") == "bf16":
        precisions.append("bf16")
    models = {each: load_sam2_weights(str(sam2_folder()), precision=each) for each in precisions}
    variants: dict[str, Callable[[], object]] = {"stock encoder, torch, fp32, 1024 px": encode_stock}
    for precision in precisions:
        for frame_px in _FRAMES_PX:
            variants[f"ours, {precision}, {frame_px} px"] = encode_ours(precision, frame_px)
    return variants


if __name__ == "__main__":
    main()
