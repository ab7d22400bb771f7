"""Open an embedded index, and end this process at its n-th step: ``python -m ... FOLDER STEP``."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from segdex_backends.index import migrations
from segdex_backends.index.edge_folder import EdgeFolder
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex

PAGE = 30  # so that the segments are more than one page
_STEPS = ((EdgeStore, "create"), (EdgeStore, "upsert"), (EdgeStore, "describe"), (EdgeFolder, "remove_shard"))


def main(folder: Path, last: int) -> None:
    """End the process without any clean-up before the step; write ``whole`` if it comes so far."""
    step = 0

    def stepping(method: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            _count()
            return method(*given, **named)

        return call

    def _count() -> None:
        nonlocal step
        step += 1
        if step == last:
            os._exit(9)

    migrations.PAGE = PAGE
    for owner, name in _STEPS:
        setattr(owner, name, stepping(getattr(owner, name)))
    QdrantIndex(EdgeStore(folder, create=False)).close()
    sys.stdout.write("whole\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
