"""The page of a comparison, from the comparison.json that `omnisource compare` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from omnisource.errors import UserError
from omnisource.report import charts
from omnisource.report.page import Figure, Page, Table, percent
from omnisource.report.resources import reproduction
from omnisource.reporting.lines import clock
from omnisource.reporting.provenance.invocations import read_invocations

COMPARISON = "comparison.json"
FORM = 1
"""Version of the file that is understood."""

MAX_FAILED = 30

Row = Mapping[str, Any]


def comparison_page(folder: Path) -> Page:
    """Returns the page of a comparison.

    Raises:
        UserError: comparison.json is damaged, or of a newer omnisource.
    """
    path = folder / COMPARISON
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["form"] > FORM:
            raise UserError(f"{path}: was written by a newer omnisource (form {content['form']}): update yours")
        return _page(folder, content)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: is damaged ({error!r}); the command that wrote it writes it again") from error


def _page(folder: Path, content: Row) -> Page:
    variants, differences, runs = content["variants"], content["differences"], content["runs"]
    failed = content.get("failed") or {}
    lacks = [f"{name}: failed; {log} says why." for name, log in list(failed.items())[:MAX_FAILED]]
    there = {_place(row) for row in variants}
    missing = dict.fromkeys(_place(run) for run in runs if _place(run) not in there)
    lacks += [
        f"{variant}, {_where(budget, amount)}: not all of its runs are done." for budget, amount, variant in missing
    ]
    folders = [folder / run["folder"] for run in runs if "folder" in run]
    starts = [start for place in folders[:1] for start in read_invocations(place)]
    again = reproduction({**(starts[-1] if starts else {}), "command": "", "folder": ""})
    unit = content.get("amount_unit", "clips")
    tables = [
        _variant_table(variants, unit),
        _difference_table(differences),
        *_group_tables(variants, differences),
        _cost_table(runs),
        *_class_tables(variants),
    ]
    seeds, folds = content["seeds"], content["folds"]
    return Page(
        kind="comparison",
        title=folder.resolve().name,
        folder=str(folder.resolve()),
        state=("incomplete", "some runs failed or are not done") if failed or missing else ("complete", ""),
        figures=(
            Figure("runs", str(len(runs)), f"seeds {', '.join(map(str, seeds))}"),
            Figure("folds", str(len(folds)), ", ".join(map(str, folds))[:80]),
            *_headlines(differences),
        ),
        lacks=tuple(lacks),
        comparison=tuple(table for table in tables if table.rows),
        charts=(*_amount_charts(variants, unit), *_training_charts(runs)),
        reproduction=again,
    )


def _place(row: Row) -> tuple[str, Any, str]:
    return row["budget"], row["amount"], row["variant"]


def _where(budget: str, amount: Any) -> str:
    return f"{budget}, {'all' if amount is None else amount}"


def _interval(row: Row, signed: bool = False) -> str:
    if row.get("low") is None or row.get("high") is None:
        return f"none: {row.get('no_interval') or 'it cannot be estimated'}"
    low, high = ((_points(row[end]) if signed else percent(row[end])) for end in ("low", "high"))
    return f"{low} to {high}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def _headlines(differences: Sequence[Row]) -> Iterator[Figure]:
    """Yields the differences of the largest amount and the first budget, at most four."""
    first = [row for row in differences if row["budget"] == differences[0]["budget"]]
    for row in [row for row in first if row["amount"] == first[-1]["amount"]][:4]:
        remark = f"points; 95 %: {_interval(row, signed=True)}; {_where(row['budget'], row['amount'])}"
        yield Figure(f"{row['ours']} − {row['theirs']}", _points(row["mean"]), remark)


def _variant_table(variants: Sequence[Row], unit: str) -> Table:
    rows = tuple(
        (
            row["budget"],
            "all" if row["amount"] is None else row["amount"],
            row["variant"],
            (percent(row["mean"]), row["mean"]),
            _interval(row),
            "" if row.get("spread") is None else (f"{100 * row['spread']:.1f}", row["spread"]),
            ", ".join(f"{100 * value:.1f}" for value in row["seeds"].values()),
            _deviations(row),
        )
        for row in variants
    )
    figures = ("top-1", "95 % interval", "spread of seeds", "each seed, %", "error of seeds, items")
    columns = ("budget", f"{unit} a class", "variant", *figures)
    remark = (
        "Top-1 on test items, all folds together. Spread is the standard deviation over seeds; the last column has the "
        "standard errors, in points, that come from the seeds and from which items are tested."
    )
    return Table("Variants", columns, rows, remark)


def _deviations(row: Row) -> str:
    found = [row.get(name) for name in ("seed_deviation", "sampling_deviation")]
    return ", ".join("?" if value is None else f"{100 * value:.1f}" for value in found)


def _difference_table(differences: Sequence[Row]) -> Table:
    rows = tuple(
        (
            row["budget"],
            "all" if row["amount"] is None else row["amount"],
            row["ours"],
            row["theirs"],
            (_points(row["mean"]), row["mean"]),
            _interval(row, signed=True),
            _verdict(row),
            _deviations(row),
            "; ".join(f"{test['won']} : {test['lost']}, p {test['p']:.2g}" for test in row.get("mcnemar", ())),
        )
        for row in differences
    )
    figures = ("difference", "95 % interval", "so", "error of seeds, items", "McNemar of each seed")
    columns = ("budget", "amount", "ours", "theirs", *figures)
    remark = (
        "Paired differences in points of top-1, ours minus theirs, with Student's intervals over seeds and clusters of "
        "items (docs/comparing.md). McNemar's p takes items as independent: with clusters it is too small. With many "
        "pairs some intervals leave out 0 by chance."
    )
    return Table("Paired differences", columns, rows, remark)


def _verdict(row: Row) -> str:
    if row.get("low") is None or row.get("high") is None:
        return "cannot be told"
    if row["low"] > 0:
        return f"{row['ours']} is better"
    return f"{row['theirs']} is better" if row["high"] < 0 else "no difference seen"


def _group_tables(variants: Sequence[Row], differences: Sequence[Row]) -> Iterator[Table]:
    of_variants = tuple(
        (row["budget"], _amount(row), row["variant"], name, (percent(found["mean"]), found["mean"]), _interval(found))
        for row in variants
        for name, found in (row.get("groups") or {}).items()
    )
    yield Table("Groups of classes", ("budget", "amount", "variant", "group", "top-1", "95 % interval"), of_variants)
    of_pairs = tuple(
        (
            row["budget"],
            _amount(row),
            f"{row['ours']} − {row['theirs']}",
            name,
            (_points(found["mean"]), found["mean"]),
            _interval(found, signed=True),
        )
        for row in differences
        for name, found in (row.get("groups") or {}).items()
    )
    columns = ("budget", "amount", "pair", "group", "difference", "95 % interval")
    yield Table("Differences of groups of classes", columns, of_pairs)


def _amount(row: Row) -> Any:
    return "all" if row["amount"] is None else row["amount"]


def _cost_table(runs: Sequence[Row]) -> Table:
    rows = []
    for place in dict.fromkeys(map(_place, runs)):
        found = [run for run in runs if _place(run) == place]
        multiply_adds = fmean(run["multiply_adds"] for run in found)
        seconds = fmean(run["training_seconds"] + run["stage_seconds"] for run in found)
        rows.append(
            (
                place[0],
                "all" if place[1] is None else place[1],
                place[2],
                len(found),
                f"{fmean(run['steps'] for run in found):.0f}",
                f"{fmean(run['stage_steps'] for run in found):.0f}",
                (f"{multiply_adds / 1e9:.4g}", multiply_adds),
                (clock(seconds), seconds),
                "; ".join(dict.fromkeys(_values(run) for run in found)),
            )
        )
    figures = ("runs", "steps", "steps before", "10⁹ multiply-adds", "time", "values")
    columns = ("budget", "amount", "variant", *figures)
    remark = "Means over the runs. Steps before are those of pre-training; multiply-adds and time are of both."
    return Table("What each variant took", columns, tuple(rows), remark)


def _values(run: Row) -> str:
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in run["values"].items())


def _class_tables(variants: Sequence[Row]) -> Iterator[Table]:
    """Yields a table of the classes for each budget and amount: top-1 of each variant."""
    for budget, amount in dict.fromkeys((row["budget"], row["amount"]) for row in variants):
        found = [row for row in variants if (row["budget"], row["amount"]) == (budget, amount)]
        names = dict.fromkeys(name for row in found for name in row.get("classes") or {})
        rows = tuple((name, *(_class_share(row, name) for row in found)) for name in names)
        columns = ("class", *(row["variant"] for row in found))
        yield Table(f"Top-1 of the classes: {_where(budget, amount)}", columns, rows)


def _class_share(row: Row, name: str) -> Any:
    share = row["classes"].get(name)
    return "" if share is None else (percent(share), share)


def _amount_charts(variants: Sequence[Row], unit: str) -> Iterator[charts.Chart]:
    for budget in dict.fromkeys(row["budget"] for row in variants):
        of_budget = [row for row in variants if row["budget"] == budget]
        amounts = list(dict.fromkeys(row["amount"] for row in of_budget))
        amounts.sort(key=lambda amount: (amount is None, amount))
        series = []
        for variant in dict.fromkeys(row["variant"] for row in of_budget):
            found = [row for row in of_budget if row["variant"] == variant]
            ends = [[100 * (row["mean"] if row[end] is None else row[end]) for row in found] for end in ("low", "high")]
            places = [amounts.index(row["amount"]) for row in found]
            values = [100 * row["mean"] for row in found]
            series.append(charts.Series(variant, places, values, has_marks=True, interval=(ends[0], ends[1])))
        if len(amounts) > 1:
            title, names = f"Top-1 on test items, %: {budget}", ["all" if a is None else str(a) for a in amounts]
            yield charts.draw(title, series, (0.0, 100.0), f"{unit} a class", names)


def _training_charts(runs: Sequence[Row]) -> Iterator[charts.Chart]:
    """Yields the validations during training for each budget and amount: mean, min and max of seeds and folds."""
    for budget, amount in dict.fromkeys((run["budget"], run["amount"]) for run in runs):
        series = []
        found = [run for run in runs if (run["budget"], run["amount"]) == (budget, amount)]
        for variant in dict.fromkeys(run["variant"] for run in found):
            curves = [run["curve"] for run in found if run["variant"] == variant]
            # By their number: folds are of different size, so that their epochs have different steps.
            points = [[curve[k] for curve in curves if k < len(curve)] for k in range(max(map(len, curves)))]
            scores = [[100 * score for _, score in at] for at in points]
            if points:
                steps = [fmean(step for step, _ in at) for at in points]
                ends = [min(at) for at in scores], [max(at) for at in scores]
                series.append(charts.Series(variant, steps, list(map(fmean, scores)), has_marks=True, interval=ends))
        if series:
            yield charts.draw(f"Validation top-1 in training, %: {_where(budget, amount)}", series, (0.0, 100.0))
