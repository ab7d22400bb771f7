"""API keys: created once, stored as hashes, compared in constant time."""

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from segdex.roles import Role
from segdex_core.errors import UsageError

_RANKS: dict[Role, int] = {"read": 0, "write": 1, "admin": 2}
_PREFIX = "segdex_"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key.

    Attributes:
        name: Name for people and logs.
        role: Role of the key.
        sha256: SHA-256 of the key, hexadecimal. A key has 256 random bits, so a slow hash would add nothing.
    """

    name: str
    role: Role
    sha256: str

    def may(self, role: Role) -> bool:
        """Return whether the key has at least this role."""
        return _RANKS[self.role] >= _RANKS[role]

    def to_line(self) -> str:
        """Return the line of the key for the file of keys."""
        return f"{self.role} {self.sha256} {self.name}"


LOOPBACK = ApiKey("loopback", "admin", "")
"""Key of every request if no keys are set; the service then listens on loopback only."""


def strongest(roles: Iterable[Role]) -> Role:
    """Return the role that includes the others."""
    return max(roles, key=_RANKS.__getitem__)


def make_key(name: str, role: Role) -> tuple[str, ApiKey]:
    """Return a new key, which is shown once, and its stored form."""
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, ApiKey(name, role, _hash(key))


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Return the keys of a file: each line has role, SHA-256 and name; ``#`` starts a comment.

    Raises:
        UsageError: If the file cannot be read, or a line has another form.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"SEGDEX_API_KEYS: {path} cannot be read: {error}") from error
    keys = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        role, _, rest = line.strip().partition(" ")
        sha256, _, name = rest.partition(" ")
        for known in get_args(Role):
            if role == known and len(sha256) == 64 and name:
                keys.append(ApiKey(name, known, sha256.lower()))
                break
        else:
            raise UsageError(
                f"SEGDEX_API_KEYS: {path}, line {number} must be a role (read, write, admin), the SHA-256 of "
                "a key and a name, as `segdex keys` prints it"
            )
    return tuple(keys)


def find_key(keys: tuple[ApiKey, ...], given: str) -> ApiKey | None:
    """Return the key that was given, or None; a wrong key takes as long as a right one."""
    hashed = _hash(given)
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, hashed):
            found = key
    return found


def check_exposure(host: str, keys: tuple[ApiKey, ...]) -> None:
    """Refuse to listen where other machines can connect without a key.

    Raises:
        UsageError: If ``host`` is not loopback and there are no keys.
    """
    if not keys and not is_loopback(host):
        raise UsageError(
            f"--host {host} can be reached from elsewhere, and no key is needed: make keys with "
            "`segdex keys`, name their file in SEGDEX_API_KEYS, or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Return whether a name or address is loopback."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
