"""Mermaid flowcharts as text: a code host draws them, but a browser would need a script of 3 MB."""

import re
from collections.abc import Iterator

_NODE = r"(?P<{0}>\w+)(?:\[\(?\"(?P<{0}_label>[^\"]*)\"\)?\])?"
_ARROW = r"(?:--(?:\s*\"(?P<said>[^\"]*)\"\s*--)?>|-\.(?:\s*\"(?P<said_dotted>[^\"]*)\"\s*\.)?->)"
_EDGE = re.compile(rf"\s*{_NODE.format('start')}(?:\s*{_ARROW}\s*{_NODE.format('end')})?\s*$")


def flowchart_as_text(source: str) -> str:
    r"""Return a flowchart as lines: each box, and below it those to which its arrows lead; a chain as one.

    Example:
        >>> print(flowchart_as_text('graph\n a["read"] --> b["write<br/>it"]\n b -- "ends" --> c["done"]'))
        read
          → write: it
          → done (ends)
    """
    labels: dict[str, str] = {}
    edges: dict[str, list[tuple[str, str]]] = {}
    for start, said, end in _edges(source, labels):
        edges.setdefault(start, []).append((end, f" ({said})" if said else ""))
    lines: list[str] = []
    before = 0  # arrows of the box before
    for start, ends in edges.items():
        is_next_of_chain = lines and lines[-1].startswith(f"  → {labels[start]}") and before == 1
        lines += [] if is_next_of_chain else [labels[start]]
        lines += [f"  → {labels[end]}{said}" for end, said in ends]
        before = len(ends)
    return "\n".join(lines)


def _edges(source: str, labels: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield start, words and end of each arrow; note the label of each box.

    Raises:
        ValueError: If a line is neither a box nor an arrow.
    """
    for line in filter(str.strip, source.splitlines()[1:]):
        found = _EDGE.match(line)
        if found is None:
            raise ValueError(f"a flowchart has boxes and arrows, but not {line.strip()!r}")
        for name in ("start", "end"):
            if found[name]:
                label = (found[f"{name}_label"] or found[name]).replace("<br/>", ": ")
                if found[f"{name}_label"] or found[name] not in labels:
                    labels[found[name]] = label
        if found["end"]:
            yield found["start"], found["said"] or found["said_dotted"] or "", found["end"]
