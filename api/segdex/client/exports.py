"""Exports of a service: the archive that it sent becomes what was asked for."""

import zipfile
from typing import IO, TYPE_CHECKING

from pydantic import ValidationError

from segdex.client import calls
from segdex_core.wire.export import RECORD_FILE, Exported

if TYPE_CHECKING:
    from segdex.saving import Target


def save_archive(file: IO[bytes], target: "Target", *, server: str) -> Exported:
    """Write the content of an archive to the place of an export.

    Args:
        file: The whole answer of the service.
        target: The place.
        server: Address of the service, for messages.

    Raises:
        UnreachableError: If the answer is not whole.
        StorageError: If the place cannot be written.
    """
    from segdex.saving import files_of, save

    try:
        with zipfile.ZipFile(file) as archive:
            record = Exported.model_validate_json(archive.read(RECORD_FILE))
            save(files_of(archive), target)
    except (zipfile.BadZipFile, KeyError, ValidationError) as error:
        raise calls.broken_off(server) from error
    return record.model_copy(update={"path": str(target.path)})
