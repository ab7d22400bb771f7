"""API keys: what a file may hold, who finds a key, and where nobody may listen without."""

from pathlib import Path

import pytest

from segdex.http.keys import check_exposure, find_key, make_key, read_keys
from segdex_core.errors import UsageError


def test_a_new_key_is_found_by_itself_alone_and_not_kept(tmp_path: Path) -> None:
    made = [make_key(f"user {role}", role) for role in ("read", "write", "admin")]
    file = tmp_path / "keys"
    file.write_text("# who may do what\n\n" + "".join(kept.to_line() + "\n" for _, kept in made))

    keys = read_keys(file)

    assert keys == tuple(kept for _, kept in made)
    for key, kept in made:
        assert find_key(keys, key) == kept
        assert key not in file.read_text()
        assert find_key(keys, key + "x") is None
        assert find_key(keys, key.upper()) is None
    assert find_key(keys, "") is None
    assert find_key((), made[0][0]) is None
    assert len({key for key, _ in made}) == 3


@pytest.mark.parametrize(("role", "may"), [("read", 1), ("write", 2), ("admin", 3)])
def test_a_role_includes_those_below_it(role: str, may: int) -> None:
    _, key = make_key("x", role)  # type: ignore[arg-type]

    assert sum(key.may(wanted) for wanted in ("read", "write", "admin")) == may


@pytest.mark.parametrize(
    "line", ["read", "owner " + "0" * 64 + " me", "read 1234 me", "read " + "0" * 64, "0" * 64]
)
def test_a_line_that_is_no_key_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# first\n{line}\n")

    with pytest.raises(UsageError, match=r"line 2 must be a role .* `segdex keys`"):
        read_keys(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"SEGDEX_API_KEYS: .*none"):
        read_keys(tmp_path / "none")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    check_exposure(host, ())


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "10.0.0.7", "example.org", "localhost.evil.org", ""],  # noqa: S104 - to refuse it
)
def test_elsewhere_needs_one(host: str) -> None:
    with pytest.raises(UsageError, match="segdex keys"):
        check_exposure(host, ())

    check_exposure(host, (make_key("x", "read")[1],))
