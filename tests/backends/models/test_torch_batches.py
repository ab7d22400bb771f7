"""Batches shrink where memory does not suffice, and pictures are uploaded once."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from segdex_backends.models.torch_batches import run_in_batches, upload, upload_one
from segdex_core.records import RGBImage


class Device:
    """A model that fails for more than so many inputs at a time."""

    def __init__(self, fits: int) -> None:
        self.fits = fits
        self.calls: list[int] = []

    def __call__(self, items: Sequence[int]) -> torch.Tensor:
        self.calls.append(len(items))
        if len(items) > self.fits:
            raise torch.OutOfMemoryError
        return torch.tensor(items)


@pytest.mark.parametrize("fits", [1, 3, 7, 16, 100])
def test_every_input_is_answered_in_order_whatever_fits(fits: int) -> None:
    done = torch.cat(run_in_batches(Device(fits), range(50), batch_size=16))

    assert done.tolist() == list(range(50))


def test_once_a_batch_was_too_large_the_rest_comes_in_smaller_ones() -> None:
    device = Device(fits=5)

    run_in_batches(device, range(20), batch_size=16)

    assert device.calls == [16, 8, 4, 4, 4, 4, 4]


def test_an_input_that_does_not_fit_alone_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        run_in_batches(Device(fits=0), range(3), batch_size=2)


class Sending:
    """Uploads, and remembers what."""

    def __init__(self) -> None:
        self.sent: list[RGBImage] = []

    def __call__(self, image: RGBImage, device: torch.device) -> torch.Tensor:
        self.sent.append(image)
        return upload_one(image, device)


def test_parts_arrive_as_they_look_and_their_picture_once() -> None:
    send = Sending()
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    parts = [picture, picture[3:30, 7:], picture[39:, 49:], picture[:, ::-1], picture[10:12][1:, 4:9]]
    alone = rng.integers(0, 256, (300, 200, 3)).astype(np.uint8)
    alone.flags.writeable = False
    images = [*parts, alone, alone[5:7, 1:3].copy()]

    uploaded = upload(images, torch.device("cpu"), send=send)

    for image, tensor in zip(images, uploaded, strict=True):
        np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), image)
    # the picture for three of its parts, the mirrored one, and the two others
    assert len(send.sent) == 4


def test_a_small_part_of_a_large_picture_is_sent_alone() -> None:
    send = Sending()
    picture = np.zeros((400, 500, 3), np.uint8)

    upload([picture[3:30, 7:60], picture[5:, 490:]], torch.device("cpu"), send=send)

    assert [image.shape for image in send.sent] == [(27, 53, 3), (395, 10, 3)]
