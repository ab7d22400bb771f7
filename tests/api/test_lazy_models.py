"""Models that load on first use: once, and never two threads waiting for each other."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.fakes.parts import parts

from segdex.library import Library
from segdex.wiring import build_settings, open_library
from segdex_core.choices import ProfileName
from segdex_core.ports.embedder import Embedder
from segdex_core.settings import Settings

LONGEST_S = 300.0
"""Never reached where all is well."""


def library_of(folder: Path, loaded: Counter[str]) -> Library:
    fakes = parts(folder / "set")

    def load_embedder(settings: Settings, profile: ProfileName) -> Embedder:
        loaded["embedder"] += 1
        return fakes.load_embedder(settings, profile)

    settings = build_settings(cache_dir=folder / "cache", jobs_file=folder / "jobs.sqlite")
    return open_library(settings, replace(fakes, load_embedder=load_embedder))


def test_a_model_is_loaded_once_whoever_asks_first(tmp_path: Path) -> None:
    loaded: Counter[str] = Counter()
    with library_of(tmp_path, loaded) as library, ThreadPoolExecutor(8) as threads:
        assert not loaded
        answers = list(threads.map(library.search, ["red", "blue", "green"] * 8))

    assert all(len(answer) for answer in answers)
    assert loaded == {"embedder": 1}


def test_a_thread_that_loads_and_one_that_runs_a_call_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with library_of(tmp_path, Counter()) as library:
        models = library.models
        other = threading.Thread(target=lambda: models.refiner, daemon=True)

        def call() -> object:
            other.start()
            other.join(0.2)  # it has begun, and waits for this call
            return models.refiner

        caller = threading.Thread(target=lambda: models.run(call), daemon=True)
        caller.start()
        caller.join(LONGEST_S)
        assert not caller.is_alive()
        other.join(LONGEST_S)
        assert not other.is_alive()


def test_a_model_that_is_loaded_does_not_wait_for_a_call_that_runs(tmp_path: Path) -> None:
    with library_of(tmp_path, Counter()) as library, ThreadPoolExecutor(1) as thread:
        models = library.models
        embedder = models.embedder

        found = models.run(lambda: thread.submit(lambda: models.embedder).result(LONGEST_S))

    assert found is embedder
