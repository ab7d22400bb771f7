"""The order in which a line is drawn: a part of the Unicode Bidirectional Algorithm (UAX 9), for one line.

Pillow orders a text of one font. A line of several fonts is drawn in parts, so that their order is needed
here. Marks that change the direction are no part of a caption.
"""

import unicodedata
from collections.abc import Sequence

_NEUTRAL = frozenset({"B", "S", "WS", "ON", "ES", "ET", "CS", "BN", ""})
_PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">", "\u00ab": "\u00bb"}
_MIRRORED = str.maketrans("()[]{}<>\u00ab\u00bb", ")(][}{><\u00bb\u00ab")


def levels_of(text: str, *, is_ltr: bool) -> list[int]:
    """Return the level of each character: even from left to right, odd from right to left.

    Args:
        text: One line.
        is_ltr: Whether the line itself runs from left to right; otherwise its first letter says.
    """
    kinds = [unicodedata.bidirectional(character) for character in text]
    strong = next((kind for kind in kinds if kind in ("L", "R", "AL")), "L")
    base = 0 if is_ltr or strong == "L" else 1
    resolved = _without_neutrals(_with_brackets(text, _without_weak(kinds, base), base), base)
    if base:
        return [1 if kind == "R" else 2 for kind in resolved]
    return [{"L": 0, "R": 1}.get(kind, 2) for kind in resolved]


def visual_order(levels: Sequence[int]) -> list[int]:
    """Return the positions of the characters from left to right (rule L2).

    Example:
        >>> visual_order([0, 1, 1, 2, 2])
        [0, 3, 4, 2, 1]
    """
    order = list(range(len(levels)))
    for level in range(max(levels, default=0), 0, -1):
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and levels[order[end]] >= level:
                end += 1
            order[start:end] = reversed(order[start:end])
            start = max(end, start + 1)
    return order


def drawn_backwards(text: str) -> str:
    """Return a part that runs from right to left as a program draws it that knows neither order nor shapes.

    Letters of Arabic get the forms in which they join, brackets are mirrored, and marks stay behind their
    letters.
    """
    clusters: list[str] = []
    for character in _joined(text):
        if clusters and unicodedata.combining(character):
            clusters[-1] += character
        else:
            clusters.append(character.translate(_MIRRORED))
    return "".join(reversed(clusters))


def _without_weak(kinds: Sequence[str], base: int) -> list[str]:
    """Return L, R, EN, AN or a neutral for each character (rules W1 to W7)."""
    found = list(kinds)
    strong = "R" if base else "L"
    for at in range(len(found)):
        if found[at] == "NSM":
            found[at] = found[at - 1] if at else strong
        if found[at] in ("L", "R", "AL"):
            strong = found[at]
        elif found[at] == "EN" and strong == "AL":
            found[at] = "AN"
    for at, kind in enumerate(found):
        around = {found[at - 1], found[at + 1]} if 0 < at < len(found) - 1 else set()
        if kind in ("CS", "ES") and around == {"EN"}:
            found[at] = "EN"
        elif kind == "CS" and around == {"AN"}:
            found[at] = "AN"
        elif kind == "ET" and "EN" in found[max(at - 1, 0) : at + 2]:
            found[at] = "EN"
    strong = "R" if base else "L"
    for at, kind in enumerate(found):
        if kind in ("L", "R", "AL"):
            strong = found[at] = "L" if kind == "L" else "R"
        elif kind == "EN" and strong == "L":
            found[at] = "L"
    return found


def _with_brackets(text: str, kinds: Sequence[str], base: int) -> list[str]:
    """Return the kinds with a direction for each pair of brackets (rule N0)."""
    of_line = "R" if base else "L"
    found = list(kinds)
    opened: list[int] = []
    for at, character in enumerate(text):
        if character in _PAIRS:
            opened.append(at)
        elif opened and character == _PAIRS[text[opened[-1]]]:
            first = opened.pop()
            inside = {_direction(kind) for kind in found[first + 1 : at] if kind not in _NEUTRAL}
            before = [_direction(kind) for kind in found[:first] if kind not in _NEUTRAL]
            if of_line in inside:
                found[first] = found[at] = of_line
            elif inside:
                found[first] = found[at] = before[-1] if before else of_line
    return found


def _without_neutrals(kinds: Sequence[str], base: int) -> list[str]:
    """Return L, R, EN or AN for each character: neutrals have the direction around them (rules N1 and N2)."""
    of_line = "R" if base else "L"
    found = list(kinds)
    start = 0
    while start < len(found):
        end = start
        while end < len(found) and found[end] in _NEUTRAL:
            end += 1
        if end > start:
            before = of_line if start == 0 else _direction(found[start - 1])
            after = of_line if end == len(found) else _direction(found[end])
            found[start:end] = [before if before == after else of_line] * (end - start)
        start = end + 1
    return found


def _direction(kind: str) -> str:
    return "L" if kind == "L" else "R"


_FORMS: dict[tuple[str, str], str] = {}
"""A letter, or lam with alef, and ``isolated``, ``initial``, ``medial`` or ``final``: the form."""


def _forms() -> dict[tuple[str, str], str]:
    if not _FORMS:
        for code in range(0xFE80, 0xFEFD):
            name, _, letters = unicodedata.decomposition(chr(code)).partition(" ")
            key = "".join(chr(int(letter, 16)) for letter in letters.split())
            _FORMS[key, name.strip("<>")] = chr(code)
    return _FORMS


def _joined(text: str) -> str:
    """Return a text whose letters of Arabic are replaced by the forms in which they join."""
    forms = _forms()
    letters: list[str] = []  # a letter or lam with alef, each with its marks
    for character in text:
        is_of_lam = letters[-1:] == ["\u0644"] and ("\u0644" + character, "isolated") in forms
        if letters and (is_of_lam or unicodedata.combining(character)):
            letters[-1] += character
        else:
            letters.append(character)
    shaped = []
    for at, letter in enumerate(letters):
        size = 2 if (letter[:2], "isolated") in forms else 1
        body, marks = letter[:size], letter[size:]
        joins_before = at > 0 and _joins_next(letters[at - 1], forms) and (body, "final") in forms
        joins_after = (
            at + 1 < len(letters)
            and (body, "initial") in forms
            and any((letters[at + 1][:length], "final") in forms for length in (1, 2))
        )
        name = {
            (True, True): "medial",
            (True, False): "final",
            (False, True): "initial",
            (False, False): "isolated",
        }[joins_before, joins_after]
        shaped.append(forms.get((body, name), body) + marks)
    return "".join(shaped)


def _joins_next(letter: str, forms: dict[tuple[str, str], str]) -> bool:
    size = 2 if (letter[:2], "isolated") in forms else 1
    return (letter[:size], "initial") in forms
