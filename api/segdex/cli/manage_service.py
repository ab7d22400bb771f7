"""What a service says of its index, and what it forgets."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from segdex.wiring import open_source
from segdex_core.errors import UsageError
from segdex_core.ids import make_image_id
from segdex_core.media.decode import sha256_hex
from segdex_core.media.uris import uri_to_path

if TYPE_CHECKING:
    from segdex.client import Client
    from segdex_core.wire.images import ImageOut


def service_figures(client: "Client") -> dict[str, int | float | str | None]:
    """Return what ``segdex stats`` shows, None for what a service does not say."""
    stats = client.stats()
    return {
        "index": client.server,
        "pictures": stats.images,
        "segments": stats.segments,
        "segments_per_picture": round(stats.segments / stats.images, 1) if stats.images else None,
        "pictures_without_segments": None,
        "profile": stats.profile,
        "embedder": stats.embedder,
        "dimensions": stats.dimensions,
        "views": ", ".join(stats.views),
        "segmenter": stats.segmenter,
        "schema_version": stats.schema_version,
    }


def forget_by_service(client: "Client", pictures: list[str]) -> dict[UUID, int]:
    """Forget pictures, and return how many segments each had.

    Args:
        client: Of the service.
        pictures: Ids; or files and folders here, whose content says which pictures they are wherever the
            service keeps them.

    Raises:
        UsageError: If one of them names nothing that the service has; then nothing is forgotten.
    """
    doomed: dict[UUID, int] = {}
    for given in pictures:
        known = {image_id: find_image(client, image_id) for image_id in _ids_of(given)}
        found = {image_id: image.segment_count for image_id, image in known.items() if image is not None}
        if not found:
            raise UsageError(
                f"{given!r} names no picture of {client.server}: give a picture id, or a file or folder here "
                "with the same content"
            )
        doomed |= found
    for image_id in doomed:
        client.delete_image(image_id)
    return doomed


def find_image(client: "Client", image_id: UUID) -> "ImageOut | None":
    """Return a picture of the service, None if it has it not."""
    from segdex.client import NotThereError

    try:
        return client.image(image_id)
    except NotThereError:
        return None


def content_id(path: Path) -> UUID:
    """Return the id that a file's content has in every index.

    Raises:
        OSError: If it cannot be read.
    """
    return make_image_id(sha256_hex(path.read_bytes()))


def _ids_of(given: str) -> Iterator[UUID]:
    try:
        yield UUID(given)
    except ValueError:
        if not Path(given).expanduser().exists():
            return
        for path in map(uri_to_path, open_source().list([given]).uris):
            try:
                yield content_id(path)
            except OSError as error:
                raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
