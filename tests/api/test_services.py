"""What settings become: precisions, and threads that share the cores."""

import os
from collections.abc import Iterator

import pytest
import torch

from segdex.api import services
from segdex.api.services import build_settings, plan_workers
from segdex.core.errors import UsageError
from segdex.core.models import devices


@pytest.fixture
def _threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("fastest", ["bf16", "fp32"])
def test_auto_is_the_fastest_for_the_segmenter_and_fp32_for_vectors_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, fastest: str
) -> None:
    monkeypatch.setattr(devices, "fastest_precision", lambda device: fastest)
    settings = build_settings(precision="auto")

    assert services._segmenter_precision(settings, "cpu") == fastest
    assert services._embedder_precision(settings, "cpu") == "fp32"


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_a_precision_that_is_asked_for_holds_for_both_models(asked: str) -> None:
    settings = build_settings(precision=asked)

    assert services._segmenter_precision(settings, "cpu") == asked
    assert services._embedder_precision(settings, "cpu") == asked


def test_a_precision_that_is_gone_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"'fp32'.*'bf16'.*'fp16'"):
        build_settings(precision="int8")


@pytest.mark.usefixtures("_threads_restored")
@pytest.mark.parametrize(
    ("asked", "cores", "workers", "threads"), [(None, 2, 2, 1), (None, 16, 4, 4), (3, 8, 3, 2), (4, 2, 4, 1)]
)
def test_workers_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, cores: int, workers: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))

    assert plan_workers(build_settings(device="cpu", workers=asked)) == workers
    assert torch.get_num_threads() == threads
