"""The cache of encoded pictures: bounded in memory, the least recently used goes first."""

import os
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdex_search.refine.encodings import EncodingCache, EncodingFiles


@dataclass(frozen=True)
class Encoded:
    nbytes: int
    name: str = ""


MIB = 1 << 20


@pytest.fixture(name="cache")
def _cache() -> EncodingCache[Encoded]:
    return EncodingCache(max_mib=3)


def test_what_is_kept_is_not_encoded_again(cache: EncodingCache[Encoded]) -> None:
    first = cache.get("a", lambda: Encoded(MIB))

    assert cache.get("a", lambda: pytest.fail("was kept")) is first
    assert (cache.hits, cache.misses) == (1, 1)


def test_the_least_recently_used_goes_first(cache: EncodingCache[Encoded]) -> None:
    for name in "abc":
        cache.get(name, lambda: Encoded(MIB))
    cache.get("a", lambda: pytest.fail("was kept"))

    cache.get("d", lambda: Encoded(MIB))

    for name in "acd":
        cache.get(name, lambda: pytest.fail("was kept"))
    assert cache.misses == 4
    cache.get("b", lambda: Encoded(MIB))
    assert cache.misses == 5


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5 * MIB)), max_size=40))
def test_it_never_holds_more_than_allowed(asked: list[tuple[int, int]]) -> None:
    cache: EncodingCache[Encoded] = EncodingCache(max_mib=3)

    for key, size in asked:
        found = cache.get(key, partial(Encoded, size))
        assert found.nbytes > 0
        assert cache.nbytes <= 3 * MIB


def test_a_cache_of_nothing_still_answers() -> None:
    cache: EncodingCache[Encoded] = EncodingCache(max_mib=0)

    assert cache.get("a", lambda: Encoded(1)).nbytes == 1
    assert cache.nbytes == 0


def test_threads_may_share_it(cache: EncodingCache[Encoded]) -> None:
    def ask(start: int) -> None:
        for number in range(300):
            key = str((start + number) % 7)
            assert cache.get(key, partial(Encoded, MIB // 2, key)).name == key

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.nbytes <= 3 * MIB
    assert cache.hits + cache.misses == 1200


def files_in(folder: Path, *, max_mib: int = 3) -> EncodingFiles[Encoded]:
    def restore(data: bytes) -> Encoded:
        if not data.startswith(b"E"):
            raise ValueError("damaged")
        return Encoded(len(data), data[1:2].decode())

    return EncodingFiles(
        folder, max_mib, dump=lambda one: b"E" + one.name.encode() + b"." * MIB, restore=restore
    )


def test_what_a_file_holds_is_not_encoded_by_the_next_process(tmp_path: Path) -> None:
    first = EncodingCache(1, files_in(tmp_path / "deep"))
    assert first.get(("a", 1), lambda: Encoded(MIB, "a")).name == "a"

    again = EncodingCache(1, files_in(tmp_path / "deep"))

    assert again.get(("a", 1), lambda: pytest.fail("was kept")).name == "a"
    assert again.get(("a", 2), lambda: Encoded(MIB, "b")).name == "b"


def test_the_files_stay_within_their_room_and_the_oldest_go(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    for age, name in enumerate("abcd"):
        before = set(tmp_path.iterdir())
        files.get(name, partial(Encoded, MIB, name))
        [made] = set(tmp_path.iterdir()) - before
        os.utime(made, (age, age))  # else two files may be of the same moment

    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 3 * MIB
    assert files.get("d", lambda: pytest.fail("was kept")).name == "d"
    assert files.get("a", lambda: Encoded(MIB, "A")).name == "A"


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.get("a", lambda: Encoded(MIB, "a"))
    for file in tmp_path.iterdir():
        file.write_bytes(b"x")

    assert files.get("a", lambda: Encoded(MIB, "b")).name == "b"
    assert files.get("a", lambda: pytest.fail("was kept")).name == "b"


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    assert files_in(tmp_path / "file" / "folder").get("a", lambda: Encoded(MIB, "a")).name == "a"
