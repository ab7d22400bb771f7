"""Where pictures are read from."""

from segdex_core.ports.source import Source


def open_source() -> Source:
    """Return what reads pictures: the files of this machine."""
    from segdex_backends.sources.files import FileSource

    return FileSource()
