"""The loggers of segdex: one for each package."""

import logging

PACKAGES = ("segdex", "segdex_backends", "segdex_core", "segdex_ingest", "segdex_search")


def set_level(level: int | str) -> None:
    """Set the level of all loggers of segdex; loggers of other libraries keep theirs."""
    for name in PACKAGES:
        logging.getLogger(name).setLevel(level)
