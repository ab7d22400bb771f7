"""The key of an index is one, however its location is written."""

from pathlib import Path

import pytest

from segdex_core.settings import Settings


def key(index: str, collection: str = "segdex") -> str:
    return Settings(index=index, index_collection=collection).index_key()


def test_an_index_has_one_key_however_its_location_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / "index")
    folders = (
        "edge:index",
        f"edge:{tmp_path}/index",
        "edge:./other/../index",
        "edge:~/index",
        "edge:link",
        "edge:index/",
    )
    servers = ("http://Qdrant:6333/", "http://qdrant", "http://qdrant:6333", "http://qdrant.")
    here = ("http://localhost", "http://127.0.0.1:6333", "http://[::1]/", "http://LOCALHOST.:6333")

    assert len({key(one) for one in folders}) == 1
    assert len({key(one) for one in servers}) == 1
    assert len({key(one) for one in here}) == 1


def test_different_indexes_have_different_keys() -> None:
    different = ("edge:index", "edge:index2", "http://qdrant", "https://qdrant", "http://qdrant:80")

    assert len({key(one) for one in different}) == len(different)
    assert key("http://qdrant") != key("http://qdrant", "segdex-2")
