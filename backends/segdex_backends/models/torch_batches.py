"""Batches of torch models: images are uploaded once, and batches are halved if memory runs out."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, Self, TypeVar

import numpy as np
import torch

from segdex_core.records import RGBImage

_log = logging.getLogger(__name__)


class _Sliceable(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Self: ...


_Items = TypeVar("_Items", bound=_Sliceable)
_Made = TypeVar("_Made")


def run_in_batches(run: Callable[[_Items], _Made], items: _Items, *, batch_size: int) -> list[_Made]:
    """Return the results of ``run`` for consecutive batches. A batch that runs out of memory is halved.

    Args:
        run: Function that processes a batch.
        items: Inputs to split into batches.
        batch_size: Number of items per batch. After a batch ran out of memory, it is half of that batch's
            size.

    Raises:
        torch.OutOfMemoryError: If a single item does not fit in memory.
    """
    done: list[_Made] = []
    start = 0
    while start < len(items):
        part = items[start : start + batch_size]
        try:
            done.append(run(part))
        except torch.OutOfMemoryError:
            if len(part) == 1:
                raise
            batch_size = len(part) // 2
        else:
            start += len(part)
            continue
        # outside of the handler, which keeps the allocations of the failed call alive
        _log.info("a batch of %d ran out of memory; going on with %d at a time", len(part), batch_size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return done


def upload_one(image: RGBImage, device: torch.device) -> torch.Tensor:
    """Return an image as a (3, H, W) uint8 tensor on a device."""
    image = np.ascontiguousarray(image)
    if not image.flags.writeable:  # torch warns of read-only arrays
        image = image.copy()
    return torch.from_numpy(image).to(device).permute(2, 0, 1)


def upload(
    images: Sequence[RGBImage],
    device: torch.device,
    *,
    send: Callable[[RGBImage, torch.device], torch.Tensor] = upload_one,
) -> list[torch.Tensor]:
    """Return each image as a (3, H, W) uint8 tensor on a device.

    If several arrays are parts of one image, the image is uploaded once, unless it is larger than all its
    parts together.

    Args:
        images: Images, or parts of images.
        device: Target device.
        send: Function that uploads one array.
    """
    wholes = [_whole_of(image) for image in images]
    parts_bytes: dict[int, int] = {}
    for image, whole in zip(images, wholes, strict=True):
        parts_bytes[id(whole)] = parts_bytes.get(id(whole), 0) + image.nbytes
    uploaded: dict[int, torch.Tensor] = {}
    tensors = []
    for image, whole in zip(images, wholes, strict=True):
        if whole.nbytes > parts_bytes[id(whole)]:
            tensors.append(send(image, device))
            continue
        if id(whole) not in uploaded:
            uploaded[id(whole)] = send(whole, device)
        y, x = _offset_yx(image, whole)
        tensors.append(uploaded[id(whole)][:, y : y + image.shape[0], x : x + image.shape[1]])
    return tensors


def _whole_of(image: RGBImage) -> RGBImage:
    """Return the image that an array is a rectangular part of, or the array itself."""
    whole = image.base
    if (
        isinstance(whole, np.ndarray)
        and whole.dtype == np.uint8
        and whole.ndim == 3
        and whole.shape[2] == image.shape[2]
        and whole.flags.c_contiguous
        and whole.strides == image.strides
    ):
        return whole
    return image


def _offset_yx(part: RGBImage, whole: RGBImage) -> tuple[int, int]:
    start, end = (array.__array_interface__["data"][0] for array in (whole, part))
    y, x = divmod((end - start) // whole.shape[2], whole.shape[1])
    return int(y), int(x)
