"""The page of a comparison, from the comparison.json that `omnisource compare` writes."""

from __future__ import annotations

from dataclasses import dataclass

from omnisource.report.page import Table


@dataclass(frozen=True)
class ComparisonPart:
    """What came of a comparison."""

    tables: tuple[Table, ...]
