"""Locations of indexes and services: each part of an address is used or refused, and no password is shown."""

from pathlib import Path

import pytest

from segdex.wiring import build_settings
from segdex_core.errors import UsageError
from segdex_core.locations import (
    EDGE,
    embedded_folder,
    index_location,
    is_address,
    server_address,
    service_address,
)
from segdex_core.settings import Settings


@pytest.mark.parametrize(
    ("given", "location"),
    [
        ("my-index", "edge:my-index"),
        ("./x", "edge:x"),
        (" my index/ ", "edge:my index"),
        ("/", "edge:/"),
        ("2024/a:b", "edge:2024/a:b"),
        ("httpd", "edge:httpd"),
        ("edge:my-index", "edge:my-index"),
        ("edge: my-index// ", "edge:my-index"),
        ("edge:2024:photos", "edge:2024:photos"),
        ("http://qdrant", "http://qdrant"),
        ("HTTP://Qdrant.:6333/ ", "http://qdrant:6333"),
        ("https://[::1]:1/", "https://[::1]:1"),
    ],
)
def test_a_location_has_one_form(given: str, location: str) -> None:
    assert index_location(given) == location
    assert Settings(index=given).index == location
    assert index_location(location) == location


@pytest.mark.parametrize(
    ("given", "saying"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("edge:", "must name a folder"),
        ("edge: ", "must name a folder"),
        ("a\0b", "control characters"),
        ("qdrant:6333", "write http://qdrant:6333 for a Qdrant server, or edge:qdrant:6333 for a folder"),
        ("127.0.0.1:6333/qdrant", "write http://127.0.0.1:6333 for"),
        ("[::1]:6333", "write http://[::1]:6333 for"),
        ("localhost", "write http://localhost:6333"),
        ("10.0.0.7", "write http://10.0.0.7:6333"),
        ("http:/qdrant", "starts with http:// or https://"),
        ("http//qdrant", "starts with http:// or https://"),
        ("https:qdrant", "starts with http:// or https://"),
        ("ttps://qdrant", "starts with http:// or https://"),
        ("s3://bucket/x", "starts with http:// or https://"),
        (":memory:", "edge::memory:"),
        ("http://", "with a port of 1 to 65535"),
        ("http://qdrant:0", "with a port of 1 to 65535"),
        ("http://qdrant:99999", "with a port of 1 to 65535"),
        ("http://qdr ant", "with a port of 1 to 65535"),
        ("http://[::1", "with a port of 1 to 65535"),
        ("https://host/qdrant", "must not have a path, but has '/qdrant'"),
        ("https://host/?a=b", "`?` and `#` are not supported"),
        ("https://host#x", "`?` and `#` are not supported"),
    ],
)
def test_what_is_no_location_is_refused_with_what_to_write(given: str, saying: str) -> None:
    with pytest.raises(ValueError, match=r"^must ") as caught:
        index_location(given)
    with pytest.raises(UsageError, match=r"^--index must ") as named:
        build_settings(index=given or " ")

    assert saying in str(caught.value)
    assert saying in str(named.value)


@pytest.mark.skipif(bool(Path("C:/").drive), reason="has drives")
@pytest.mark.parametrize("given", [r"C:\pictures\index", "c:/index", r"\\server\share"])
def test_a_path_of_another_system_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="folder of this machine"):
        index_location(given)


@pytest.mark.parametrize(
    "given",
    [
        "http://user:secret@host:6333",
        "https://:secret@host",
        "http://user:secret@host:port",
        "http://user:secret@host/qdrant?x",
        "http://user:secret@[::1",
        "user:secret@host:6333",
        "http:/user:secret@host",
        "http://secret@host",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_shown(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for read in (index_location, service_address):
        with pytest.raises(ValueError, match="must ") as caught:
            read(given)
        assert "secret" not in str(caught.value)
    for name in ("index", "server"):
        with pytest.raises(UsageError, match=f"--{name} must ") as refused:
            build_settings(**{name: given})
        assert "secret" not in f"{refused.value} {refused.value.__cause__}"
        monkeypatch.setenv(f"SEGDEX_{name.upper()}", given)
        with pytest.raises(UsageError, match=f"SEGDEX_{name.upper()} must ") as refused:
            build_settings()
        assert "secret" not in f"{refused.value} {refused.value.__cause__}"
        monkeypatch.delenv(f"SEGDEX_{name.upper()}")


def test_a_service_may_have_a_path_and_ends_without_a_slash() -> None:
    assert service_address(" https://host/pictures/ ") == "https://host/pictures"
    assert service_address("http://host:8600") == "http://host:8600"
    for given, saying in (("host:8600", "write http://host:8600"), ("http://host?x", "not supported")):
        with pytest.raises(ValueError, match="must ") as caught:
            service_address(given)
        assert saying in str(caught.value)


def test_the_parts_of_an_address() -> None:
    address = server_address("https://[::1]/")

    assert (str(address), address.port, address.has_port) == ("https://[::1]:6333", 6333, False)
    assert server_address("http://h:80").has_port
    assert is_address(" HTTPS://x")
    assert not is_address("x")


def test_the_folder_of_an_embedded_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/folder")

    assert embedded_folder(f"{EDGE}~/index") == Path("/folder/index")
    assert embedded_folder(f"{EDGE}~nobody-of-this-name/index") == Path("~nobody-of-this-name/index")
    assert embedded_folder("http://host") is None
