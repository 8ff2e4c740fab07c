"""What stands beside the type of a recipe's field: its bounds, whether a resumed run may change it, what is a path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval


@dataclass(frozen=True)
class MayDiffer:
    """Marks a field, or a group with all that is in it, that a resumed run may change: nothing of it is trained on."""


MAY_DIFFER = MayDiffer()


@dataclass(frozen=True)
class Formerly:
    """Stands beside a field that came later and whose default is not what was done before it.

    Attributes:
        value: What was done before: what a stored recipe means that lacks the field.
    """

    value: Any


@dataclass(frozen=True)
class IsPath:
    """Marks a field that is a path, or several: `~` in it is the home folder."""


PATH = IsPath()

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]
"""A share or a probability."""
ShareBelowOne = Annotated[float, Interval(ge=0, lt=1)]
"""A share that leaves something."""
