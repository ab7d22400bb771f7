"""Answers as the command line prints them."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from segdex.cli.tables import print_table
from segdex_core.wire.search import NOTHING_BELOW, HitOut, RefinementOut, SearchResponse
from segdex_core.wording import count_of


def print_answer(response: SearchResponse, console: Console, *, matches_only: bool) -> None:
    """Print the hits, the number of matches and the timings.

    Args:
        response: Answer to print.
        console: Console to print to.
        matches_only: Whether weaker matches were left out.
    """
    matches = [hit for hit in response.hits if hit.is_match]
    weaker = [hit for hit in response.hits if not hit.is_match]
    if not response.hits and any(hint.startswith(NOTHING_BELOW) for hint in response.hints):
        pass  # the hint says why, and "nothing found" would sound as if it had been looked for
    elif matches or not (weaker or matches_only):
        print_found(matches, console)
    else:
        console.print("not there: no picture stands out for this")
    if weaker:
        console.print(Text("\nweaker matches (--min-score auto leaves them out)", style="dim"))
        print_found(weaker, console)
    for hint in response.hints:
        console.print(Text(hint), soft_wrap=True)
    stages = ", ".join(f"{stage} {ms:.0f} ms" for stage, ms in response.timings_ms.items())
    line = f"{count_of(len(matches), 'picture')}; scored by {response.embedder}; {stages}"
    console.print(Text(line, style="dim"))


def print_found(hits: Sequence[HitOut], console: Console) -> None:
    """Print a line for each segment; the first of each image has the path. No cell is cut."""
    if not hits:
        console.print("nothing found")
        return
    heads = ("rank", "score", "area", "box x1,y1-x2,y2", "segment", "picture")
    rows = []
    for hit in hits:
        for position, found in enumerate(hit.segments):
            x1, y1, x2, y2 = found.box_xyxy
            rows.append(
                (
                    "" if position else str(hit.rank),
                    f"{found.score:.3f}",
                    f"{found.area_fraction:.1%}",
                    f"{x1},{y1}-{x2},{y2}",
                    str(found.id),
                    "" if position else _shown_path(hit.image.path) + _duplicates(hit),
                )
            )
    print_table(console, heads, rows, right=range(3))


def print_refined(refined: RefinementOut, console: Console) -> None:
    """Print one line: the segment, the answer and the reason."""
    stages = ", ".join(f"{stage} {ms:.0f} ms" for stage, ms in refined.timings_ms.items())
    line = f"{refined.answer:<8} {refined.segment_id}  {refined.reason} ({refined.made_by}; {stages})"
    console.print(Text(line), no_wrap=True)


def _duplicates(hit: HitOut) -> str:
    """Return how many images were collapsed into one."""
    found = len(hit.near_duplicates)
    return f"  (and {found} near-duplicate{'s'[: found != 1]})" if found else ""


def _shown_path(path: str) -> str:
    """Return the path of an image, relative to the working folder if it lies inside."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
