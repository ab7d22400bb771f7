"""The loggers of segdex: one for each package."""

import logging

from segdex_core.wording import UNPRINTABLE, printable

PACKAGES = ("segdex", "segdex_backends", "segdex_core", "segdex_ingest", "segdex_search")


def set_level(level: int | str) -> None:
    """Set the level of all loggers of segdex; loggers of other libraries keep theirs."""
    for name in PACKAGES:
        logging.getLogger(name).setLevel(level)


class TextFormatter(logging.Formatter):
    """Formats records for people: a name in a message neither drives a terminal nor begins a line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in logging
        """See ``logging.Formatter``."""
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``; the lines of a stack stay."""
        text = super().format(record)
        return UNPRINTABLE.sub(lambda found: found[0] if found[0] in "\n\t" else printable(found[0]), text)
