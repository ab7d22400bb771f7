"""A command whose arguments are a query text, in which ``-word`` excludes a word."""

from typing import Any

from typer.core import TyperCommand


class QueryCommand(TyperCommand):
    """Takes ``-word`` as a word of the query where no option has that name.

    The words move behind the options, in their order. A word with a space, such as ``-wet street`` out of
    quotes of the shell, is quoted again for the grammar. Unknown options with two dashes stay an error.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; see ``click.Command.parse_args``."""
        takes_value: dict[str, bool] = {}
        for parameter in self.get_params(ctx):
            if parameter.param_type_name == "option":
                has_value = not (getattr(parameter, "is_flag", False) or getattr(parameter, "count", False))
                takes_value.update(dict.fromkeys((*parameter.opts, *parameter.secondary_opts), has_value))
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
