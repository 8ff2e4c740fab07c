from __future__ import annotations

from omnisource.evaluation.results.predictions import Prediction
from omnisource.report.calibration import calibration_of
from omnisource.report.confusion import confusion_of


def taken(label: int, predicted: int, score: float = 0.8) -> Prediction:
    rank = 1 if label == predicted else 2
    return Prediction(0, "x", label, score if rank == 1 else 0.1, rank, ((predicted, score), (label, 0.1)))


def test_confused_classes_stand_side_by_side() -> None:
    rows = [taken(k, k) for k in range(10)] + 3 * [taken(0, 7), taken(7, 4), taken(2, 9)]
    found = confusion_of(rows, [f"c{k}" for k in range(10)])

    place = {name: index for index, name in enumerate(found.names)}
    assert sorted(place) == sorted(f"c{k}" for k in range(10))
    assert abs(place["c0"] - place["c7"]) == abs(place["c7"] - place["c4"]) == abs(place["c2"] - place["c9"]) == 1
    assert (place["c7"], place["c4"], 3) in found.cells and found.counts[place["c7"]] == 4
    first = found.pairs[0]
    assert (first.label, first.prediction, first.count, first.of) == ("c0", "c7", 3, 4)
    assert sum(path.count("M") for path in (*found.right, *found.wrong)) == len(found.cells) == 13


def test_large_matrix_draws_the_cells_with_most_items() -> None:
    rows = [taken(k, (k + step) % 300) for k in range(300) for step in range(80)] + 5 * [taken(3, 4)]
    found = confusion_of(rows, [str(k) for k in range(300)])
    assert len(found.cells) == 20_000 and found.num_hidden == 4_000 and found.pairs[0].count == 6


def test_calibration_compares_scores_with_what_was_right() -> None:
    found = calibration_of(
        [taken(0, 0, 0.95), taken(0, 0, 0.95), taken(0, 1, 0.95), taken(0, 0, 0.25), taken(0, 0, 1.0)]
    )
    assert [(one.count, round(one.accuracy.value, 3)) for one in found.bins] == [(1, 1.0), (4, 0.75)]
    assert abs(found.error - (0.75 + 4 * abs(3.85 / 4 - 0.75)) / 5) < 1e-9
