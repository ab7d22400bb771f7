"""Texts that people write, so that one word has one spelling."""

import unicodedata

_TYPOGRAPHIC = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201b\u2032\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    }
)
"""Marks that word processors and phones write for those of a keyboard."""

_JOINERS = "\u200c\u200d"
"""Invisible, but parts of words in Persian and Hindi, and of emoji."""


def has_word(text: str) -> bool:
    r"""Return whether a text, normalized, has a letter, a digit or an emoji.

    Example:
        >>> has_word("cat!"), has_word("\N{CAT FACE}"), has_word("...")
        (True, True, False)
    """
    folded = unicodedata.normalize("NFKC", text)
    return any(character.isalnum() or unicodedata.category(character) == "So" for character in folded)


def fold_text(text: str) -> str:
    r"""Return a text as a keyboard would write it, for a model that was trained on such texts.

    Full-width, combining and other compatible forms are folded (NFKC), quotes and dashes are those of ASCII,
    and invisible characters, such as soft hyphens and zero-width spaces, are gone.

    Example:
        >>> fold_text("\uff43at\u2019s \u201ctail\u201d, so\u00adfa")
        'cat\'s "tail", sofa'
    """
    # the marks go first: NFKC makes a space and an accent of some, and further marks of others
    marked = unicodedata.normalize("NFKC", text.translate(_TYPOGRAPHIC)).translate(_TYPOGRAPHIC)
    visible: list[str] = []
    for character in marked:
        is_invisible = unicodedata.category(character) == "Cf"
        joins = character in _JOINERS and visible and not visible[-1].isascii()
        if not is_invisible or joins:
            visible.append(character)
    return unicodedata.normalize("NFKC", "".join(visible))


def is_latin(text: str) -> bool:
    """Return whether all letters of a text are Latin; digits, marks and emoji are no letters.

    Example:
        >>> is_latin("Übergröße 7"), is_latin("кошка")
        (True, False)
    """
    return all(unicodedata.name(letter, "").startswith("LATIN ") for letter in text if letter.isalpha())
