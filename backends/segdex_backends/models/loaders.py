"""Model loaders, by the adapter that a catalog entry names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from segdex_backends.models.catalog import CATALOG, PACKAGE_PREFIX, Adapter, CatalogEntry, template_of
from segdex_backends.models.devices import fastest_precision, resolve_device
from segdex_core.choices import Device
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.segmenter import Segmenter
from segdex_core.ports.text_segmenter import TextSegmenter
from segdex_core.settings import ModelPrecision, Precision

if TYPE_CHECKING:
    from segdex_backends.models.hub import Hub


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Options for loading a model.

    Attributes:
        asked_device: Requested device; ``auto`` uses CUDA if it is available.
        precision: Requested precision; ``auto`` depends on model and device.
        compiled: Whether to compile SAM 2's encoder.
        cache_dir: segdex's cache folder, for files of npm packages and for checksums; None for the user's.
    """

    asked_device: Device
    precision: Precision = "auto"
    compiled: bool = False
    cache_dir: Path | None = None

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``. Resolving ``auto`` imports torch, so only torch models should read it.

        Raises:
            UsageError: If CUDA is requested but not available.
        """
        return resolve_device(self.asked_device)


def segmenter_precision(options: LoadOptions, *, cpu: Mapping[str, object] | None = None) -> ModelPrecision:
    """Return the precision of a segmenter; ``auto`` becomes the fastest one.

    Args:
        options: Requested device and precision.
        cpu: Capabilities of the CPU; None for those that torch reports.
    """
    return fastest_precision(options.device, cpu=cpu) if options.precision == "auto" else options.precision


def embedder_precision(options: LoadOptions) -> ModelPrecision:
    """Return the precision of an embedder; ``auto`` becomes bf16 on CUDA and fp32 on a CPU.

    An index accepts vectors of only one precision, so embedders on different CPUs must use the same
    precision. If the precision of the segmenter changes, images are only segmented again.
    """
    if options.precision == "auto":
        return "bf16" if options.device == "cuda" else "fp32"
    return options.precision


def hub_of(options: LoadOptions) -> "Hub":
    """Return the hub, with the checksums of the catalog, and the folder where others are recorded."""
    from segdex_backends.models.hub import Hub

    pins = {
        (source.package, file.path): file.sha256
        for entry in CATALOG
        for source in entry.sources
        if source.kind == "hub"
        for file in source.files
        if file.sha256 is not None
    }
    return Hub(records_dir=options.cache_dir, pins=pins)


def _sam2(entry: CatalogEntry, options: LoadOptions) -> Segmenter:
    from segdex_backends.models.sam2.loader import load_sam2_weights

    return load_sam2_weights(
        entry.sources[0].package,
        device=options.device,
        precision=segmenter_precision(options),
        revision=entry.sources[0].version,
        compiled=options.compiled,
        hub=hub_of(options),
    )


def _sam2_onnx(entry: CatalogEntry, options: LoadOptions) -> Segmenter:
    from segdex_backends.models.npm import fetch_npm_files
    from segdex_backends.models.sam2.onnx_loader import load_onnx_weights

    [source] = entry.sources
    encoder, decoder = fetch_npm_files(
        source.package,
        source.version or "",
        sha256_by_member={file.path: file.sha256 for file in source.files if file.sha256 is not None},
        cache_dir=options.cache_dir,
    )
    return load_onnx_weights(
        encoder,
        decoder,
        device=options.device,
        precision=segmenter_precision(options),
        compiled=options.compiled,
        cache_dir=options.cache_dir,
    )


def _sam2_package(entry: CatalogEntry, options: LoadOptions) -> Segmenter:
    from segdex_backends.models.sam2_package.loader import load_sam2_package

    return load_sam2_package(
        entry.name.removeprefix(PACKAGE_PREFIX),
        device=options.device,
        precision=segmenter_precision(options),
        hub=hub_of(options),
    )


def _open_clip(entry: CatalogEntry, options: LoadOptions) -> Embedder:
    from segdex_backends.models.open_clip.embedder import OpenClipEmbedder

    return OpenClipEmbedder.load(
        entry.architecture,
        pretrained=entry.pretrained,
        device=options.device,
        precision=_precision_of(entry, options),
        prompt_template=entry.prompt_template or template_of(entry.architecture),
        hub=hub_of(options),
    )


def _precision_of(entry: CatalogEntry, options: LoadOptions) -> ModelPrecision:
    """Return the precision that filled an index where the settings leave it open."""
    if options.precision == "auto" and entry.precision is not None:
        return entry.precision
    return embedder_precision(options)


def _conse(entry: CatalogEntry, options: LoadOptions) -> Embedder:
    from segdex_backends.models.conse.embedder import ConseEmbedder

    pins = {
        Path(file.path).name: file.sha256
        for source in entry.sources
        for file in source.files
        if file.sha256 is not None
    }
    return ConseEmbedder.load(pins=pins, cache_dir=options.cache_dir)


def _evf_sam2(entry: CatalogEntry, options: LoadOptions) -> TextSegmenter:
    from segdex_backends.models.evf_sam2.segmenter import EvfSam2

    [source] = entry.sources
    return EvfSam2.load(
        source.package,
        device=options.device,
        precision=segmenter_precision(options),
        revision=source.version,
        hub=hub_of(options),
    )


SEGMENTERS: Mapping[Adapter, Callable[[CatalogEntry, LoadOptions], Segmenter]] = MappingProxyType(
    {"sam2-transformers": _sam2, "sam2-onnx": _sam2_onnx, "sam2-package": _sam2_package}
)
EMBEDDERS: Mapping[Adapter, Callable[[CatalogEntry, LoadOptions], Embedder]] = MappingProxyType(
    {"open-clip": _open_clip, "conse": _conse}
)
TEXT_SEGMENTERS: Mapping[Adapter, Callable[[CatalogEntry, LoadOptions], TextSegmenter]] = MappingProxyType(
    {"evf-sam2": _evf_sam2}
)
