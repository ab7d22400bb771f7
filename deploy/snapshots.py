"""Take snapshots of the index on a Qdrant server, or recover it from them.

Runs inside the image, on its settings; from this folder::

    docker compose exec -T segdex python - take < snapshots.py
    docker compose exec -T segdex python - recover IMAGES SEGMENTS [SETS] < snapshots.py

The names after ``recover`` are those that ``take`` prints. An index of schema 4 has no sets, so it has two
snapshots; segdex migrates it after the recovery.

The snapshots lie on the server, below ``/qdrant/snapshots``.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

INDEX = os.environ.get("SEGDEX_INDEX", "http://127.0.0.1:6333").rstrip("/")
if urlsplit(INDEX).port is None:
    INDEX += ":6333"  # where segdex looks for a server whose address names no port
PREFIX = os.environ.get("SEGDEX_INDEX_COLLECTION", "segdex")
# Pictures first: one that is done after this snapshot is ingested again after a recovery. The other way round
# it would be done, and without its segments.
COLLECTIONS = (f"{PREFIX}-images", f"{PREFIX}-segments", f"{PREFIX}-sets")
SETS = COLLECTIONS[-1]


def ask(method: str, path: str, body: dict[str, object] | None = None) -> Any:
    """Return the result of a request, or end with what the server says."""
    request = urllib.request.Request(  # noqa: S310 - the address is the operator's own
        f"{INDEX}/collections/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json", "api-key": os.environ.get("SEGDEX_INDEX_API_KEY", "")},
    )
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
            return json.load(answer)["result"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {path}: {error} {error.read().decode(errors='replace')[:500]}")
    except urllib.error.URLError as error:
        sys.exit(f"{INDEX} does not answer: {error.reason}")


def exists(collection: str) -> bool:
    """Return whether the server has a collection, or an alias of one."""
    return bool(ask("GET", f"{collection}/exists")["exists"])


match sys.argv[1:]:
    case ["take"]:
        for collection in COLLECTIONS if exists(SETS) else COLLECTIONS[:-1]:
            taken = ask("POST", f"{collection}/snapshots")
            sys.stdout.write(f"{json.dumps(taken)}\n")
    case ["recover", *names] if len(COLLECTIONS) - 1 <= len(names) <= len(COLLECTIONS):
        for collection, name in zip(COLLECTIONS, names, strict=False):
            if not name.startswith(f"{collection}-"):
                sys.exit(f"{name} is no snapshot of {collection}: pictures first, then segments, then sets")
        for collection, name in zip(COLLECTIONS, names, strict=False):
            # the alias of the collection was asked for its snapshot; the file has the name of the collection
            real = name.rsplit("-", 7)[0]  # NAME-PEER-YEAR-MONTH-DAY-HOUR-MINUTE-SECOND.snapshot
            location = f"file:///qdrant/snapshots/{real}/{name}"
            ask("PUT", f"{real}/snapshots/recover", {"location": location, "priority": "snapshot"})
            # a re-embedding may have replaced this collection since the snapshot
            alias = {"collection_name": real, "alias_name": collection}
            ask("POST", "aliases", {"actions": [{"create_alias": alias}]})
            ask("PATCH", real, {"metadata": {"segdex_fence": False}})
            sys.stdout.write(f"recovered {collection}\n")
        held = ask("GET", COLLECTIONS[1])["config"]["metadata"]["segdex"]
        if "sets" in held["collections"] and not exists(SETS):
            sys.exit("this index has named sets: recover again, with their snapshot as the last name")
    case _:
        sys.exit("usage: snapshots.py take | recover IMAGES.snapshot SEGMENTS.snapshot [SETS.snapshot]")
