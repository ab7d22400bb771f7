"""Loads shards that were not closed, reads every point, and prints how many each has, as JSON.

It runs as a process of its own. Qdrant Edge reads through memory maps, so a file that is too short ends the
process with SIGBUS, and some damage ends it with a panic: then this process ends, and not segdex. Loading
replays the write-ahead log, and closing flushes it, so the shards are as after a clean close.

This file imports nothing of segdex, which makes it start in a tenth of a second.
"""

import json
import sys
from pathlib import Path

from qdrant_edge import CountRequest, EdgeShard, ScrollRequest

_PAGE = 1024


def main(folder: Path, names: list[str]) -> int:
    """Recover the shards ``names`` below ``folder``."""
    points: dict[str, int] = {}
    for name in names:
        shard = EdgeShard.load(str(folder / name))
        counted, read, offset = shard.count(CountRequest(exact=True)), 0, None
        while True:
            page, offset = shard.scroll(
                ScrollRequest(offset=offset, limit=_PAGE, with_payload=True, with_vector=True)
            )
            read += len(page)
            if offset is None:
                break
        if read != counted:
            sys.stderr.write(f"{name}: {read} points of {counted} can be read\n")
            return 1
        shard.close()
        points[name] = read
    sys.stdout.write(json.dumps(points))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
