"""Migrate an embedded index, and end at the n-th change of its files: ``python -m ... FOLDER CHANGE``."""

import os
import sys
from pathlib import Path

from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.migrations import migrate
from segdex_backends.index.qdrant import QdrantIndex

PAGE = 30  # so that the segments are more than one page


def main(folder: Path, last: int) -> None:
    """End the process without any clean-up before the change; write ``whole`` if it comes so far."""
    changes = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal changes
        if _changes_files(event, str(arguments[0]) if arguments else "", folder):
            changes += 1
            if changes == last:
                os._exit(9)

    sys.addaudithook(count)
    store = EdgeStore(folder, create=False)
    migrate(store, page=PAGE)
    QdrantIndex(store).close()
    sys.stdout.write("whole\n")


def _changes_files(event: str, path: str, folder: Path) -> bool:
    """Whether Python is about to move or remove something, or to sync what is new, as after each page."""
    if event == "open":
        return path == str(folder)
    return event in {"os.listdir", "os.rename", "os.rmdir", "shutil.rmtree"} and path.startswith(str(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
