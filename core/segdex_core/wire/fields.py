"""The types of the fields of requests; their limits are those of ``limits``."""

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from segdex_core.colours import ColourName, colour_named
from segdex_core.wire.limits import MAX_LIMIT, MAX_PER_IMAGE, MAX_TEXT_CHARS, MAX_WEIGHT


def names_range(allowed: str) -> Any:
    """Return what makes a bounded number name all of its range, and not the bound alone that it missed.

    Args:
        allowed: The range in words, such as "between 0 and 1".
    """

    def check(value: object, inner: ValidatorFunctionWrapHandler) -> object:
        try:
            return inner(value)
        except ValidationError as error:
            if error.errors()[0]["type"] in _OUTSIDE:
                raise PydanticCustomError(
                    "out_of_range", "must be {allowed}", {"allowed": allowed}
                ) from error
            raise

    return WrapValidator(check)


_OUTSIDE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)]
Share = Annotated[float, Field(ge=0, le=1), names_range("between 0 and 1")]
Weight = Annotated[float, Field(gt=0, le=MAX_WEIGHT), names_range(f"above 0 and at most {MAX_WEIGHT}")]
ViewWeight = Annotated[float, Field(ge=0, le=MAX_WEIGHT), names_range(f"between 0 and {MAX_WEIGHT}")]


def _not_zero(weight: float) -> float:
    if weight == 0:
        raise ValueError("must not be 0: leave the term out instead")
    return weight


SignedWeight = Annotated[
    float,
    Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT, json_schema_extra={"not": {"const": 0}}),
    AfterValidator(_not_zero),
    names_range(f"between -{MAX_WEIGHT} and {MAX_WEIGHT} and not 0"),
]
"""Below 0, hits should be unlike the term."""

Pixel = Annotated[int, Field(ge=0, le=1_000_000), names_range("between 0 and 1,000,000")]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT), names_range(f"between 1 and {MAX_LIMIT:,}")]
PerImage = Annotated[int, Field(ge=1, le=MAX_PER_IMAGE), names_range(f"between 1 and {MAX_PER_IMAGE}")]


def _named(given: object) -> object:
    return (colour_named(given) or given) if isinstance(given, str) else given


Colour = Annotated[ColourName, BeforeValidator(_named)]
"""One of the eleven colours, or a synonym such as gray."""


class StrictRequest(BaseModel):
    """A request: a field that it does not know and a number that is not finite are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
