"""Role that each ``Library`` method needs over HTTP; the routes and the table in docs/python.md follow it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Role = Literal["read", "write", "admin"]
"""Role of an API key; each role includes the roles before it."""

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
        "find_ids": "read",
        "pixels": "read",
        "stats": "read",
        "labels": "read",
        "label": "write",
        "sets": "read",
        "show_set": "read",
        "create_set": "write",
        "add_to_set": "write",
        "remove_from_set": "write",
        "rename_set": "write",
        "delete_set": "write",
        "concepts": "read",
        "show_concept": "read",
        "mark": "write",
        "rename_concept": "write",
        "delete_concept": "write",
        "clear_labels": "write",
        "import_labels": "write",
        "ingest": "write",
        "upload": "write",
        "delete": "write",
        "export": "read",
        "doctor": "admin",
        "jobs": "read",
        "job": "read",
        "watch_job": "read",
        "add_job": "write",
        "stop_job": "write",
        "sync": None,
        "reembed": None,
        "drop_old_vectors": None,
        "back_up": None,
        "restore": None,
    }
)
"""Methods of ``Library``, and the role that a service requires.

None if a service does not offer the method: only the machine with the files can tell which are missing.
"""
