"""What each verb needs over HTTP; the routes and the table in the documentation are made from it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Role = Literal["read", "write", "admin"]
"""Of an API key; each includes those before it."""

ROLES: Mapping[str, Role | None] = MappingProxyType(
    {
        "search": "read",
        "refine": "read",
        "similar": "read",
        "segment": "read",
        "show": "read",
        "image": "read",
        "image_file": "read",
        "image_segments": "read",
        "pixels": "read",
        "stats": "read",
        "ingest": "write",
        "upload": "write",
        "delete": "write",
        "jobs": "read",
        "job": "read",
        "watch_job": "read",
        "add_job": "write",
        "stop_job": "write",
        "sync": None,
    }
)
"""The verbs of ``Library``, and the role that a service asks for.

None where a service does not offer the verb: only the machine with the files can say which are gone.
"""
