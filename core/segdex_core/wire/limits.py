"""Limits and defaults of requests: the service checks them, and a client can read them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_TEXT_CHARS = 1_000
"""Longer texts are refused before they reach a tokenizer; models read about 75 words at most."""

MAX_LIMIT = 1_000
"""Pictures that one question may page through."""

MAX_PER_IMAGE = 100
"""Segments of one picture in an answer."""

MAX_REFINED = 100
"""Hits that one request may refine."""

MAX_TERMS = 16
"""Texts, segments or negative texts of one question, each."""

MAX_REGIONS = 4
"""Regions of one question: each reads and decodes a picture."""

MAX_POINTS = 64
"""Points of one prompt. A scribble needs a dozen; SAM was trained with at most nine."""

MAX_WEIGHT = 100
"""Largest weight of a term or view."""

DEFAULT_AWAY_WEIGHT = 0.5
"""Weight of a negative term, beside positive terms of weight 1 in all."""

DEFAULT_VIEW_WEIGHTS: Mapping[str, float] = MappingProxyType({"crop": 0.4, "mask": 0.6})
"""Share of each view in a score; measured with ``segdex eval search``, see docs/search.md."""

Level = Literal["any", "whole", "part"]
"""What to find: ``any`` prefers whole objects as far as that pays on average, ``whole`` much more, and
``part`` only looks at what lies inside another segment, without a preference."""

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0, le=MAX_WEIGHT)]
ViewWeight = Annotated[float, Field(ge=0, le=MAX_WEIGHT)]
Pixel = Annotated[int, Field(ge=0, le=1_000_000)]


class StrictRequest(BaseModel):
    """A request: a field that it does not know and a number that is not finite are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
