"""What the shell offers for a word that is being typed; nothing is opened or loaded for it."""

from collections.abc import Callable, Sequence

Complete = Callable[[str], list[str]]


def one_of(values: Sequence[str]) -> Complete:
    """Return what completes one of some values."""

    def complete(incomplete: str) -> list[str]:
        return _starting(values, incomplete)

    return complete


def segmenters(incomplete: str) -> list[str]:
    """Complete the name of a segmenter."""
    from segdex.catalog import model_names

    return _starting(model_names("segmenter"), incomplete)


def embedders(incomplete: str) -> list[str]:
    """Complete the name of an embedder."""
    from segdex.catalog import model_names

    return _starting(model_names("embedder"), incomplete)


def refiners(incomplete: str) -> list[str]:
    """Complete the name of a model that refines."""
    from segdex.catalog import model_names

    return _starting(model_names("refiner"), incomplete)


def _starting(values: Sequence[str], incomplete: str) -> list[str]:
    return [value for value in values if value.startswith(incomplete)]
