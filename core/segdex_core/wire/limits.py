"""Limits and defaults of requests: the service checks them, and a client can read them.

The command line names them in its help, and so they import nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

MAX_TEXT_CHARS = 1_000
"""Longer texts are refused before they reach a tokenizer; models read about 75 words at most."""

MAX_LIMIT = 1_000
"""Pictures that one question may page through."""

MAX_PER_IMAGE = 100
"""Segments of one picture in an answer."""

MAX_REFINED = 100
"""Hits that one request may refine."""

DEFAULT_REFINED = 5
"""Hits that are refined where no number is given."""

MAX_TERMS = 16
"""Texts, segments or negative texts of one question, each."""

MAX_REGIONS = 4
"""Regions of one question: each reads and decodes a picture."""

MAX_POINTS = 64
"""Points of one prompt. A scribble needs a dozen; SAM was trained with at most nine."""

MIN_SIDE_PX, MAX_SIDE_PX = 16, 4_096
"""Of the longer side of a picture that is sent as JPEG."""

MAX_WEIGHT = 100
"""Largest weight of a term or view."""

DEFAULT_NEGATIVE_WEIGHT = 0.5
"""Weight of a negative term, beside positive terms of weight 1 in all."""

DEFAULT_VIEW_WEIGHTS: Mapping[str, float] = MappingProxyType({"crop": 0.4, "mask": 0.6})
"""Share of each view in a score; measured with ``segdex eval search``, see docs/research/search.md."""

MAX_LABELS = 2_000
"""Labels that one pass over an index gives; LVIS has 1,203."""

MAX_LABELLED = 1_000
"""Segments that a person labels at once."""

MAX_SET_CHARS = 100
"""Longest name of a set."""

MAX_SET_CHANGES = 10_000
"""Members that one request adds to a set, or removes."""

MAX_IDEMPOTENCY_KEY_CHARS = 200
"""Longest idempotency key of a request."""

MAX_CONCEPT_CHARS = 100
"""Longest name of a concept."""

MAX_MARKS = 1_000
"""Marks of one concept. A handful is enough for most."""

LabelAuthor = Literal["model", "concept", "person"]
"""Kind of the author of a label."""

CapturedFrom = Literal["exif", "xmp", "iptc", "gps", "png", "file", "upload"]
"""What says when a picture was taken: metadata of this kind, or the time of the file where it has no date;
``upload`` is a file's time that is the time of its upload."""

Combine = Literal["mean", "best"]
"""How several terms are one query: ``mean`` looks for what is like all of them together, ``best`` for what is
like any of them."""

Level = Literal["any", "whole", "part"]
"""What to find: ``any`` prefers whole objects as far as that pays on average, ``whole`` much more, and
``part`` only looks at what lies inside another segment, without a preference."""

ExportFormatName = Literal["coco", "coco-polygons", "yolo", "label-studio", "cvat", "fiftyone", "csv", "zip"]
"""Formats of `segdex export` for other tools; a backup is another matter."""

PicturesChoice = Literal["none", "copy"]
"""Whether an export has copies of the pictures."""

MAX_CATEGORY_CHARS = 100
"""Longest name of a category of an export."""

MAX_EXPORTED_IDS = 10_000
"""Segments that an export names one by one."""

MAX_TOLERANCE_PX = 100
"""Farthest that a polygon of an export may be from its mask."""

ImportFormat = Literal["coco", "label-studio"]
"""Formats that `segdex import` reads."""

DEFAULT_MIN_IOU = 0.6
"""Lowest IoU of an annotation and a segment that it was not exported from; docs/import.md has the figures."""
