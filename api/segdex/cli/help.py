"""How ``--help`` shows options: the variable of the environment and the default of each, at any width.

An option that has a setting gets both from ``DEFAULTS`` by its name; no help text names them. Settings
themselves are not imported, as pydantic takes longer than all else that the help needs.
"""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperCommand, TyperOption

from segdex_core.media.limits import MAX_PIXELS

DEFAULTS: Mapping[str, str | None] = {
    "api_keys": None,
    "decode_threads": "2",
    "device": "auto",
    "embedder": "of the index, or of the profile",
    "index": "segdex-index",
    "max_pixels": f"{MAX_PIXELS}",
    "profile": "of the index, or default",
    "refiner": None,
    "segmenter": "of the profile",
    "server": None,
    "uploads": None,
    "views": "crops",
}
"""Options that have a setting, and its default in words; None if there is nothing without the option."""

_WIDEST = 80
_NARROWEST = 30
_NARROW = 60  # two columns leave too little room for text below it
_NO_BREAK = "\N{NO-BREAK SPACE}"
_NO_BREAK_HYPHEN = "\N{NON-BREAKING HYPHEN}"


def with_notes(option: TyperOption) -> str:
    """Return the help of an option, with its variable and its default in one bracket."""
    notes = []
    default = default_of(option)
    if option.name in DEFAULTS:
        notes.append(f"env:{_NO_BREAK}SEGDEX_{option.name.upper()}")
        default = default or DEFAULTS[option.name]
    if default is not None:
        notes.append(f"default:{_NO_BREAK}{default}")
    if option.required:
        notes.append("required")
    text = option.help or ""
    return f"{text} [{'; '.join(notes)}]" if notes else text


def default_of(option: TyperOption) -> str | None:
    """Return the default of an option as a person reads it; None if nothing is done without it."""
    if isinstance(option.show_default, str):
        return option.show_default
    value = option.default
    if value is None or not option.show_default or callable(value):
        return None
    if option.is_flag:
        # only of two names, one is what happens without them
        names = option.opts if value else option.secondary_opts
        return names[0].lstrip("-") if option.secondary_opts else None
    return str(value)


_Context: Any = TyperCommand.context_class
_Formatter: Any = _Context.formatter_class


class HelpFormatter(_Formatter):  # type: ignore[misc]
    """Wraps the help to the width of the terminal; where it is narrow, texts stand below the names.

    A variable of the environment is never broken off its name, and no option at a hyphen.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        columns = shutil.get_terminal_size().columns
        self.width = max(min(columns, _WIDEST) - 2, _NARROWEST)

    def write_dl(self, rows: Sequence[tuple[str, str]], *arguments: Any, **named: Any) -> None:
        """Write names with their texts."""
        rows = [(name, text.replace("-", _NO_BREAK_HYPHEN)) for name, text in rows]
        if self.width >= _NARROW:
            super().write_dl(rows, *arguments, **named)
            return
        for name, text in rows:
            self.write(f"{'':>{self.current_indent}}{name}\n")
            self.indent()
            self.write_text(text)
            self.dedent()

    def getvalue(self) -> str:
        """Return the help."""
        text: str = super().getvalue()
        return text.replace(_NO_BREAK, " ").replace(_NO_BREAK_HYPHEN, "-")


class HelpContext(_Context):  # type: ignore[misc]
    """Context of a command whose help ``HelpFormatter`` writes."""

    formatter_class = HelpFormatter
