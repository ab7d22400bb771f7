"""OpenCLIP on a very small random model: parity with open_clip by hand, limits, and failures to load."""

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from tests.fakes.embedder import TINY_OPEN_CLIP, write_tiny_open_clip
from tests.needs import photo
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from segdex_backends.models.catalog import resolve_model
from segdex_backends.models.hub import Hub
from segdex_backends.models.open_clip.embedder import DeviceSteps, OpenClipEmbedder
from segdex_backends.models.torch_batches import upload
from segdex_core.errors import (
    ModelInvalidError,
    ModelMissingError,
    ModelUnavailableError,
    QueryError,
    UsageError,
)
from segdex_core.records import RGBImage


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("open_clip")


@pytest.fixture(name="checkpoint", scope="module")
def _checkpoint(folder: Path) -> Path:
    return write_tiny_open_clip(folder)


@pytest.fixture(name="embedder", scope="module")
def _embedder(checkpoint: Path) -> OpenClipEmbedder:
    return _load(checkpoint)


@pytest.fixture(name="images", scope="module")
def _images() -> list[RGBImage]:
    rng = np.random.default_rng(3)
    sizes_hw = [(33, 70), (200, 120), (32, 32), (5, 9), (480, 31)]
    return [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes_hw]


def made_by_hand(
    checkpoint: Path,
    *,
    on_device: bool | None = None,
    before_pictures: Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None] | None = None,
) -> OpenClipEmbedder:
    """Return an embedder of a model that open_clip loads, with what is to be done before it sees pictures."""
    model, _, preprocess = open_clip.create_model_and_transforms(TINY_OPEN_CLIP, pretrained=str(checkpoint))
    if before_pictures is not None:
        model.visual.register_forward_pre_hook(before_pictures)
    return OpenClipEmbedder(
        model.eval(),
        preprocess,
        tokenizer=open_clip.get_tokenizer(TINY_OPEN_CLIP),
        name="by hand",
        fingerprint="by hand",
        dim=int(open_clip.get_model_config(TINY_OPEN_CLIP)["embed_dim"]),
        batch_size=16,
        precision="fp32",
        prompt_template="a photo of a {}.",
        on_device=on_device,
    )


def _load(checkpoint: Path, *, template: str = "a photo of a {}.", batch_size: int = 16) -> OpenClipEmbedder:
    return OpenClipEmbedder.load(
        TINY_OPEN_CLIP, pretrained=str(checkpoint), prompt_template=template, batch_size=batch_size
    )


def test_image_vectors_are_those_of_open_clip_by_hand(
    embedder: OpenClipEmbedder, checkpoint: Path, images: list[RGBImage]
) -> None:
    model, _, preprocess_val = open_clip.create_model_and_transforms(
        TINY_OPEN_CLIP, pretrained=str(checkpoint)
    )
    model.eval()
    with torch.inference_mode():
        by_hand = torch.cat(
            [model.encode_image(preprocess_val(Image.fromarray(image))[None]) for image in images]
        )

    expected = torch.nn.functional.normalize(by_hand, dim=-1).numpy()
    np.testing.assert_allclose(embedder.embed_images(images), expected, atol=1e-6)


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_preprocessing_on_the_device_gives_the_vectors_of_open_clips_own(
    checkpoint: Path, resize_mode: str, interpolation: str
) -> None:
    with Image.open(photo("coffee.png")) as opened:
        picture = np.array(opened.convert("RGB"))
    boxes = [(0, 0, 400, 600), (10, 20, 200, 90), (50, 60, 66, 80), (100, 300, 390, 500), (0, 0, 20, 250)]
    crops = [picture[y1:y2, x1:x2] for y1, x1, y2, x2 in boxes]
    own = open_clip.image_transform(32, is_train=False, resize_mode=resize_mode, interpolation=interpolation)
    steps = DeviceSteps.of(own)

    if resize_mode == "longest":  # a resize of its own that only reads Pillow's pictures
        assert steps is None
        return
    assert steps is not None
    on_device = steps.run(upload(crops, torch.device("cpu")))
    by_pillow = torch.stack([own(Image.fromarray(crop)) for crop in crops])
    model = open_clip.create_model(TINY_OPEN_CLIP, pretrained=str(checkpoint)).eval()
    with torch.inference_mode():
        found, expected = (model.encode_image(pixels, normalize=True) for pixels in (on_device, by_pillow))
    assert float((found * expected).sum(1).min()) >= 0.999


def test_an_embedder_that_preprocesses_on_the_device_has_the_same_vectors(
    embedder: OpenClipEmbedder, checkpoint: Path, images: list[RGBImage]
) -> None:
    expected = embedder.embed_images(images)
    found = made_by_hand(checkpoint, on_device=True).embed_images(images)

    assert (found * expected).sum(axis=1).min() >= 0.999
    assert (found != expected).any()


def test_a_batch_that_runs_out_of_memory_is_halved(
    embedder: OpenClipEmbedder, checkpoint: Path, images: list[RGBImage]
) -> None:
    expected = embedder.embed_images(images)
    sizes: list[int] = []

    def small_device(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError

    small = made_by_hand(checkpoint, before_pictures=small_device)

    np.testing.assert_allclose(small.embed_images(images), expected, atol=1e-6)
    assert sizes == [5, 2, 2, 1]


def test_text_vectors_are_those_of_open_clip_by_hand(embedder: OpenClipEmbedder, checkpoint: Path) -> None:
    model = open_clip.create_model(TINY_OPEN_CLIP, pretrained=str(checkpoint)).eval()
    tokens = open_clip.get_tokenizer(TINY_OPEN_CLIP)(["a photo of a red dog.", "a photo of a sea."])
    with torch.inference_mode():
        expected = model.encode_text(tokens, normalize=True).numpy()

    np.testing.assert_allclose(embedder.embed_texts(["red dog", " sea "]), expected, atol=1e-6)


def test_the_batch_size_changes_no_vector(checkpoint: Path, images: list[RGBImage]) -> None:
    one, two = _load(checkpoint, batch_size=1), _load(checkpoint, batch_size=2)

    np.testing.assert_allclose(one.embed_images(images), two.embed_images(images), atol=1e-6)
    np.testing.assert_allclose(one.embed_texts(["a", "b", "c"]), two.embed_texts(["a", "b", "c"]), atol=1e-6)


def test_the_template_is_part_of_the_text(embedder: OpenClipEmbedder, checkpoint: Path) -> None:
    raw = _load(checkpoint, template="{}")

    templated = embedder.embed_texts(["dog"])
    np.testing.assert_allclose(raw.embed_texts(["a photo of a dog."]), templated, atol=1e-6)
    assert np.abs(raw.embed_texts(["dog"]) - templated).max() > 1e-3


def test_braces_in_a_text_are_taken_as_they_are(checkpoint: Path) -> None:
    raw, templated = _load(checkpoint, template="{}"), _load(checkpoint, template="my {}")

    np.testing.assert_allclose(templated.embed_texts(["{} {0}"]), raw.embed_texts(["my {} {0}"]), atol=1e-6)


def test_a_text_fits_exactly_up_to_the_context_length(checkpoint: Path) -> None:
    raw = _load(checkpoint, template="{}")

    raw.embed_texts(["dog " * 22])  # 22 words, start and end are the 24 tokens that the model reads
    with pytest.raises(QueryError, match=r"has 25 tokens .* at most 24"):
        raw.embed_texts(["dog " * 23])


def test_a_lone_surrogate_is_refused(embedder: OpenClipEmbedder) -> None:
    with pytest.raises(QueryError, match="Unicode"):
        embedder.embed_texts(["dog \ud800"])


def test_a_very_long_crop_has_the_vector_of_its_middle(embedder: OpenClipEmbedder) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 4000, 3)).astype(np.uint8)

    np.testing.assert_allclose(
        embedder.embed_images([image]), embedder.embed_images([image[:, 1980:2020]]), atol=1e-5
    )


def test_a_hugging_face_tokenizer_is_counted_too(tmp_path: Path, checkpoint: Path) -> None:
    unknown = "[UNK]"
    words = Tokenizer(WordLevel({"[PAD]": 0, "dog": 1, unknown: 2}, unk_token=unknown))
    words.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words)  # type: ignore[no-untyped-call]
    fast.add_special_tokens({"pad_token": "[PAD]", "unk_token": unknown})
    fast.save_pretrained(tmp_path / "words")
    try:
        embedder = _load(write_tiny_open_clip(tmp_path, hf_tokenizer=tmp_path / "words"), template="{}")
    finally:
        open_clip.add_model_config(checkpoint.parent / f"{TINY_OPEN_CLIP}.json")

    assert embedder.reading_hint("dog dog") is None
    hint = embedder.reading_hint("dog katze!")
    assert hint is not None
    assert "cannot read 'katze!' and looks for the rest" in hint
    with pytest.raises(QueryError, match="cannot read 'katze': its tokenizer knows none of the words"):
        embedder.embed_texts(["katze"])

    embedder.embed_texts(["dog " * 24])
    with pytest.raises(QueryError, match=r"has 25 tokens .* at most 24"):
        embedder.embed_texts(["dog " * 25])


@pytest.mark.parametrize(
    ("text", "unread"),
    [("a red umbrella", None), ("Übergröße 7 \N{CAT FACE}!", None), ("кошка", "кошка"), ("red 傘", "傘")],
)
def test_of_the_tokenizer_of_clip_it_is_said_that_it_is_for_english(
    embedder: OpenClipEmbedder, text: str, unread: str | None
) -> None:
    hint = embedder.reading_hint(text)

    assert hint == (
        unread
        and f"{embedder.name} learnt from English captions and hardly reads {unread!r}; write it in English, "
        "or use a model of many languages, such as SigLIP 2"
    )


def test_other_weights_have_another_fingerprint(folder: Path, checkpoint: Path) -> None:
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]

    assert f"sha256:{digest}" in _load(checkpoint).fingerprint
    assert _load(write_tiny_open_clip(folder, seed=1)).fingerprint != _load(checkpoint).fingerprint


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "text", "list", "other keys"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_checkpoint_is_refused(checkpoint: Path, tmp_path: Path, damage: str, suffix: str) -> None:
    path = tmp_path / f"damaged{suffix}"
    good = checkpoint.read_bytes()
    if damage == "list":
        torch.save([1, 2], path)
    elif damage == "other keys":
        torch.save({"layer.weight": torch.zeros(3)}, path)
    else:
        contents = {
            "cut": good[: len(good) // 2],
            "noise": bytes(range(256)) * 64,
            "empty": b"",
            "text": b"x",
        }
        path.write_bytes(contents[damage])

    with pytest.raises(ModelInvalidError, match="damaged") as caught:
        _load(path)

    assert "\n" not in str(caught.value)


def test_the_checkpoint_of_another_architecture_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ModelInvalidError, match="no usable checkpoint of ViT-S-32-alt"):
        OpenClipEmbedder.load("ViT-S-32-alt", pretrained=str(checkpoint))


def test_an_unknown_model_is_refused_with_near_names() -> None:
    with pytest.raises(ModelInvalidError, match=r"ViT-B-33.*ViT-B-32"):
        OpenClipEmbedder.load("ViT-B-33", pretrained="openai")


def test_an_unknown_tag_is_refused_with_the_tags_of_the_model() -> None:
    with pytest.raises(ModelInvalidError, match="laion2b_s34b_b79k"):
        OpenClipEmbedder.load("ViT-B-32", pretrained="laion3b")


def test_a_checkpoint_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelMissingError, match=r"nowhere.pt"):
        OpenClipEmbedder.load("ViT-B-32", pretrained=str(tmp_path / "nowhere.pt"))


def test_settings_that_do_not_fit_are_usage_errors(checkpoint: Path) -> None:
    weights = str(checkpoint)
    with pytest.raises(UsageError, match="fp16 needs --device cuda"):
        OpenClipEmbedder.load(TINY_OPEN_CLIP, pretrained=weights, precision="fp16")
    with pytest.raises(UsageError, match="--device 'tpux'"):
        OpenClipEmbedder.load(TINY_OPEN_CLIP, pretrained=weights, device="tpux")
    with pytest.raises(UsageError, match="template"):
        OpenClipEmbedder.load(TINY_OPEN_CLIP, pretrained=weights, prompt_template="a photo")
    with pytest.raises(ValueError, match="batch_size"):
        OpenClipEmbedder.load(TINY_OPEN_CLIP, pretrained=weights, batch_size=0)


def hub_on(port: int, cache_dir: Path, *, timeout_s: float = 60) -> Hub:
    return Hub(
        timeout_s=timeout_s,
        endpoint=f"http://127.0.0.1:{port}",
        cache_dir=cache_dir,
        records_dir=cache_dir / "segdex",
    )


def _assert_unavailable(hub: Hub, reason: str) -> None:
    with pytest.raises(ModelUnavailableError, match=reason) as caught:
        OpenClipEmbedder.load("ViT-B-32", pretrained="laion2b_s34b_b79k", hub=hub)

    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "ViT-B-32",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        str(hub.cache_dir),
        "--profile offline",
    ):
        assert part in message


def test_a_hub_that_refuses_connections_is_unavailable(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        _assert_unavailable(hub_on(bound.getsockname()[1], tmp_path), "refused")


def test_a_hub_that_never_answers_is_unavailable_after_the_timeout(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _assert_unavailable(hub_on(silent.getsockname()[1], tmp_path, timeout_s=0.2), "timed out")


def test_offline_mode_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    _assert_unavailable(Hub(cache_dir=tmp_path, records_dir=tmp_path / "segdex"), "HF_HUB_OFFLINE")


@pytest.fixture(name="hub_file")
def _hub_file(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository, which has only the older ``.bin`` file, behind the tag ``tagged``."""
    contents = checkpoint.read_bytes()

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            found = self.path == "/segdex/tiny/resolve/main/open_clip_pytorch_model.bin"
            self.send_response(200 if found else 404)
            self.send_header("X-Error-Code", "" if found else "EntryNotFound")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", '"1234"')
            self.send_header("Content-Length", str(len(contents) if found else 0))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(contents)

        def log_message(self, *_: object) -> None:
            return

    config = {"hf_hub": "segdex/tiny/", "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, TINY_OPEN_CLIP, {"tagged": config})
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield hub_on(server.server_port, tmp_path / "hub")
        server.shutdown()
        thread.join()


def test_a_tag_is_fetched_once_and_has_its_own_preprocessing(
    embedder: OpenClipEmbedder,
    checkpoint: Path,
    images: list[RGBImage],
    hub_file: Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = OpenClipEmbedder.load(TINY_OPEN_CLIP, pretrained="tagged", hub=hub_file)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cached = OpenClipEmbedder.load(TINY_OPEN_CLIP, pretrained="tagged", hub=hub_file)
    same_file = _load(checkpoint)  # its only tag says how it is preprocessed

    vectors = first.embed_images(images)
    np.testing.assert_array_equal(cached.embed_images(images), vectors)
    np.testing.assert_array_equal(same_file.embed_images(images), vectors)
    assert np.abs(embedder.embed_images(images) - vectors).max() > 1e-3
    assert "tagged" in first.fingerprint
    assert first.fingerprint != embedder.fingerprint


def test_the_fingerprint_of_a_tag_names_model_precision_and_template(hub_file: Hub) -> None:
    """An index that remembers it can go on with it."""
    for template in ("{}", "a photo of a {}.", 'it\'s a "{}"'):
        made = OpenClipEmbedder.load(
            TINY_OPEN_CLIP, pretrained="tagged", hub=hub_file, prompt_template=template
        )

        entry = resolve_model(made.fingerprint, role="embedder")

        assert (entry.architecture, entry.pretrained) == (TINY_OPEN_CLIP, "tagged")
        assert (entry.precision, entry.prompt_template) == ("fp32", template)


def test_every_built_in_tag_names_a_hub_repository() -> None:
    for name, tag in open_clip.list_pretrained():
        assert open_clip.get_pretrained_cfg(name, tag)["hf_hub"].count("/") >= 1, (name, tag)
