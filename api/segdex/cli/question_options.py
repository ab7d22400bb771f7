"""The options of a question, which every command with a question shares."""

from pathlib import Path
from typing import Annotated

import typer

from segdex.cli.complete import one_of
from segdex_core.colours import COLOUR_NAMES
from segdex_core.wire.limits import DEFAULT_REFINED, DEFAULT_VIEW_WEIGHTS, Combine, Level

TextArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Text to search for, such as: red umbrella. All words are one text."),
]
AlsoOption = Annotated[
    list[str] | None, typer.Option("--also", help="Another text to search for; repeatable.")
]
ImageOption = Annotated[
    list[Path] | None, typer.Option("--image", help="Search for objects like this picture; repeatable.")
]
SegmentOption = Annotated[
    list[str] | None, typer.Option("--segment", help="Search for objects like this segment; repeatable.")
]
NegativeOption = Annotated[
    list[str] | None, typer.Option("--negative", "--not", help="Text to exclude; repeatable.")
]
UnlikeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unlike",
        metavar="ID|FILE",
        help="Segment or picture that hits should be unlike; repeatable.",
    ),
]
WeightOption = Annotated[
    list[float] | None,
    typer.Option(
        "--weight",
        help="Weight of each text, --also, --image and --segment, in this order.",
        show_default="1",
    ),
]
NegativeWeightOption = Annotated[
    float, typer.Option("--negative-weight", help="Weight of every --negative and --unlike.")
]
ViewOption = Annotated[
    list[str] | None,
    typer.Option(
        "--view",
        metavar="crop|mask=WEIGHT",
        autocompletion=one_of([f"{name}=" for name in DEFAULT_VIEW_WEIGHTS]),
        help="Weight of a view in the score; repeatable.",
    ),
]
LimitOption = Annotated[int, typer.Option("--limit", help="Maximum number of pictures.")]
PerImageOption = Annotated[int, typer.Option("--per-image", help="Maximum segments per picture.")]
MinScoreOption = Annotated[
    str | None,
    typer.Option(
        "--min-score",
        metavar="SCORE|auto",
        autocompletion=one_of(("auto",)),
        help="Minimum score; auto hides weaker matches, which otherwise come last.",
    ),
]
RefineOption = Annotated[
    int | None,
    typer.Option(
        "--refine",
        metavar="[N]",
        help="Re-decode the masks of the first N hits.",
        show_default=str(DEFAULT_REFINED),
    ),
]
MinAreaOption = Annotated[
    float | None,
    typer.Option("--min-area", help="Minimum area of a segment as a share of the picture, 0 to 1."),
]
MaxAreaOption = Annotated[
    float | None,
    typer.Option("--max-area", help="Maximum area of a segment as a share of the picture, 0 to 1."),
]
SourceOption = Annotated[
    list[str] | None, typer.Option("--source", help="Only pictures in this folder; repeatable.")
]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", help="Only pictures with this tag; repeatable, all tags must match."),
]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Only pictures taken at or after this date.")
]
UntilOption = Annotated[str | None, typer.Option("--until", help="Only pictures taken before this date.")]
ColorOption = Annotated[
    list[str] | None,
    typer.Option(
        "--color",
        autocompletion=one_of(COLOUR_NAMES),
        help="Only segments of which at least a quarter is in this color, such as red; repeatable.",
    ),
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", help="With this label of `segdex label`; repeatable, any of them."),
]
InSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="In this set of `segdex set`; repeatable, any of them."),
]
LevelOption = Annotated[
    Level,
    typer.Option(
        "--level",
        help="Prefer whole objects slightly (any) or strongly (whole), or find only parts (part).",
    ),
]
NmsOption = Annotated[
    bool,
    typer.Option(
        "--nms/--no-nms",
        help="Non-maximum suppression: leave out parts and surroundings of better hits.",
    ),
]
CombineOption = Annotated[
    Combine,
    typer.Option(
        "--combine",
        help="Hits are like the mean of all terms, or like any one of the pictures and segments (best).",
    ),
]
ExactOption = Annotated[bool, typer.Option("--exact", help="Compare the query with every vector.")]
DiversityOption = Annotated[
    float,
    typer.Option("--diversity", help="How much different pictures come first: 0, by score alone, to 1."),
]
CollapseDuplicatesOption = Annotated[
    bool,
    typer.Option(
        "--collapse-duplicates", help="One picture of each group of near-duplicates, such as a burst."
    ),
]
