"""Consoles that names of files and texts of users cannot drive."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from segdex_core.wording import UNPRINTABLE


class SafeConsole(Console):
    """A console that replaces control characters in all that it shows; its own styles stay."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See ``Console``."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(_safe(segment.text), segment.style)


def _safe(text: str) -> str:
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else "\N{REPLACEMENT CHARACTER}", text)
