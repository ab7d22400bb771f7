"""Options with a few fixed values, as types: they import nothing, so that a command can name them at once."""

from typing import Literal

ProfileName = Literal["default", "offline"]
Device = Literal["auto", "cpu", "cuda"]
Quality = Literal["fast", "balanced", "best"]
Selection = Literal["ranked", "meta"]
"""Which masks of a picture are kept: the best up to a budget, or those above Meta's fixed thresholds."""

ViewMode = Literal["crops", "pooled"]
