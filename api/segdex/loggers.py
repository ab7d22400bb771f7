"""The loggers of segdex: one for each of its packages."""

import logging

PACKAGES = ("segdex", "segdex_backends", "segdex_core", "segdex_ingest", "segdex_search")


def set_level(level: int | str) -> None:
    """Have all packages log from a level on; loggers of libraries keep theirs."""
    for name in PACKAGES:
        logging.getLogger(name).setLevel(level)
