"""The page of a test, from the files in its folder."""

from __future__ import annotations

from pathlib import Path

from omnisource.report.page import Page, Problem
from omnisource.report.recipes import recipe_rows, recipe_text, source_table
from omnisource.report.resources import reproduction, usage_table
from omnisource.report.run import MAX_PROBLEMS, test_figures
from omnisource.report.sources import read_results


def tested_page(folder: Path) -> Page:
    """Returns the page of a test.

    Raises:
        UserError: A file of the test is damaged.
    """
    results = read_results(folder)
    about = next((result.about for result in results if "recipe" in result.about), results[0].about)
    recipe = about.get("recipe") or {}
    problems = [
        Problem(path, reason, f"left out of the scores of {result.name}")
        for result in results
        for path, reason in result.left_out
    ]
    where = folder.resolve()
    return Page(
        kind="test",
        title=f"{where.parent.name}/{where.name}",
        folder=str(where),
        figures=test_figures(results),
        lacks=tuple(lack for result in results for lack in result.lacks),
        recipe=recipe_rows(recipe),
        sources=source_table(recipe),
        recipe_text=recipe_text(recipe),
        results=results,
        problems=tuple(problems[:MAX_PROBLEMS]),
        num_problems=len(problems),
        resources=tuple(filter(None, [usage_table([about] if "usage" in about else [], "The test")])),
        reproduction=reproduction(about),
    )
