"""Re-embed or search an index in a process of its own: python -m ... reembed|begin|search PLACE PREFIX.

``begin`` re-embeds one picture, and waits to be killed. Each line of the output is a JSON document: what a
search of the old vectors finds, or why it was refused.
"""

import json
import sys
import threading
from pathlib import Path

from tests.fakes.embedder import ColourEmbedder

from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.index.server_connection import ServerConnection
from segdex_backends.index.server_store import ServerStore
from segdex_backends.sources.files import FileSource
from segdex_core.errors import IndexMismatchError
from segdex_core.ports.index import IndexReader
from segdex_ingest.analyse import Embedding
from segdex_ingest.reembed import ReembedOptions, reembed_index
from segdex_search.answer import search
from segdex_search.queries import SearchQuery, TextTerm

OLD, NEW = ColourEmbedder(), ColourEmbedder(samples_per_side=3)


def open_index(place: str, prefix: str) -> QdrantIndex:
    """Return the index in a folder, or with a prefix on a server; it is created if it is missing."""
    if place.startswith("http"):
        server = ServerConnection(place, timeout_s=60)
        return QdrantIndex(ServerStore(server, create=True, collection_prefix=prefix))
    return QdrantIndex(EdgeStore(Path(place), create=True))


def found_by(index: IndexReader, embedder: ColourEmbedder) -> list[list[object]]:
    """Return the key and the score of each segment that a search finds."""
    answer = search(SearchQuery(terms=(TextTerm("red"),), limit=20), index=index, embedder=embedder)
    return [[str(one.segment_id), round(one.score, 5)] for hit in answer.hits for one in hit.segments]


def say(value: object) -> None:
    """Write a line that the parent process reads at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def search_on(index: QdrantIndex) -> None:
    """Search one open index until it is refused."""
    while True:
        try:
            say(found_by(index, OLD))
        except IndexMismatchError as error:
            say(str(error))
            return


def embedded(index: QdrantIndex, *, waits: bool) -> None:
    """Search beside the re-embedding, and wait for ever if asked to."""
    say(found_by(index, OLD))
    if waits:
        threading.Event().wait()


if __name__ == "__main__":
    verb, place, prefix = sys.argv[1:4]
    opened = open_index(place, prefix)
    if verb == "search":
        search_on(opened)
    else:
        reembed_index(
            opened,
            Embedding(NEW),
            source=FileSource(),
            profile="test",
            options=ReembedOptions(max_pixels=10_000),
            on_image=lambda *_: embedded(opened, waits=verb == "begin"),
        )
    opened.close()
