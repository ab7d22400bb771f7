"""Commands that take words out of quotes of the shell as one text."""

from itertools import pairwise
from typing import Any

from typer.core import TyperCommand


class QueryCommand(TyperCommand):
    """Takes ``-word`` as a word of the query where no option has that name.

    The words move behind the options, in their order. A word with a space, such as ``-wet street`` out of
    quotes of the shell, is quoted again for the grammar. Unknown options with two dashes stay an error.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; see ``click.Command.parse_args``."""
        takes_value = _options_with_value(self, ctx)
        kept: list[str] = []
        excluded: list[str] = []
        rest = iter(args)
        for argument in rest:
            if argument == "--":
                return super().parse_args(ctx, [*kept, "--", *excluded, *rest])
            is_word = len(argument) > 1 and argument[0] == "-" != argument[1] and argument not in takes_value
            if is_word:
                word = argument[1:]
                excluded.append(f'-"{word}"' if " " in word and not word.startswith('"') else argument)
                continue
            kept.append(argument)
            if takes_value.get(argument, False) and (value := next(rest, None)) is not None:
                kept.append(value)
        return super().parse_args(ctx, [*kept, "--", *excluded] if excluded else kept)


class TextOptionCommand(TyperCommand):
    """Takes the words after ``--text`` as one text, up to the next option.

    Where no argument stands before it, the last of these words is the argument, such as the name of a file.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; see ``click.Command.parse_args``."""
        if "--text" not in args:
            return super().parse_args(ctx, args)
        start = args.index("--text") + 1
        end = next((n for n in range(start, len(args)) if args[n].startswith("-")), len(args))
        words = args[start:end]
        takes_value = _options_with_value(self, ctx)
        others = (args[: start - 1], args[end:])
        has_argument = any(
            not one.startswith("-") and not takes_value.get(before, False)
            for some in others
            for before, one in pairwise(["", *some])
        )
        kept = [] if has_argument or len(words) < 2 else [words.pop()]
        text = [" ".join(words)] if words else []
        return super().parse_args(ctx, [*args[:start], *text, *kept, *args[end:]])


def _options_with_value(command: TyperCommand, ctx: Any) -> dict[str, bool]:
    """Return whether each option of a command takes a value, by its names."""
    takes_value: dict[str, bool] = {}
    for parameter in command.get_params(ctx):
        if parameter.param_type_name == "option":
            has_value = not (getattr(parameter, "is_flag", False) or getattr(parameter, "count", False))
            takes_value.update(dict.fromkeys((*parameter.opts, *parameter.secondary_opts), has_value))
    return takes_value
