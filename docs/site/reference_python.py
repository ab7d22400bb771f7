"""The reference of the Python interface: directives for the docstrings of ``segdex.__all__``."""

import inspect

import segdex

_NOT_FIELDS = "model_config, model_post_init, model_fields, model_computed_fields"


def python_page() -> str:
    """Return the page: functions, then classes, in the order of their names."""
    names = [name for name in segdex.__all__ if not name.startswith("__")]
    functions = [name for name in names if not inspect.isclass(getattr(segdex, name))]
    classes = [name for name in names if inspect.isclass(getattr(segdex, name))]
    lines = [
        "# Python",
        "",
        "This page is generated from the docstrings. [Python](../python.md) explains the interface.",
        "",
        "## Functions",
        "",
        *(line for name in functions for line in _directive("autofunction", name, ())),
        "## Classes",
        "",
    ]
    for name in classes:
        options = (
            ":members:",
            ":inherited-members: BaseModel, Exception, tuple, object",
            f":exclude-members: {_NOT_FIELDS}",
        )
        lines += [f"### {name}", "", *_directive("autoclass", name, options)]
    return "\n".join(lines)


def _directive(kind: str, name: str, options: tuple[str, ...]) -> list[str]:
    return ["```{eval-rst}", f".. {kind}:: segdex.{name}", *(f"   {each}" for each in options), "```", ""]
