"""The cache of encoded pictures: bounded in memory, the least recently used goes first."""

import threading
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdex.search.refine.encodings import EncodingCache


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
