from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omnisource.reporting.pictures import contact_picture, contact_sheet, draw_class_histogram, draw_confusion, has_mark


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def svg_texts(path: Path) -> str:
    """Returns the source of an SVG, where each text stands in a comment beside its glyphs."""
    return path.read_text()


def plain(color: tuple[int, int, int], *shape: int) -> np.ndarray:
    return np.broadcast_to(np.array(color, dtype=np.uint8), (*shape, 3))


def box_of(image: np.ndarray, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Returns top, bottom, left and right of the pixels of a color, the ends not included."""
    rows, columns = np.nonzero((image == np.array(color)).all(axis=-1))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def excess(image: np.ndarray, channel: int, over: int) -> np.ndarray:
    """Returns where one channel is far above another one."""
    return image[..., channel].astype(int) - image[..., over] > 60


def test_small_confusion_matrix_has_names_and_percentages(tmp_path: Path) -> None:
    path = draw_confusion([[3, 1], [0, 0]], ["left hand", "right hand"], tmp_path / "confusion.svg")
    texts = svg_texts(path)
    for text in ("left hand", "right hand", "75", "25", "top-1 75.0% of 4 samples, 2 classes"):
        assert f"<!-- {text} -->" in texts
    assert "confusions" not in texts


def test_confusion_matrix_of_many_classes_lists_the_most_frequent_confusions(tmp_path: Path) -> None:
    matrix = np.diag(np.full(400, 10))
    matrix[7, 9], matrix[300, 2] = 5, 30
    path = draw_confusion(matrix, [f"class {index}" for index in range(400)], tmp_path / "confusion.svg")
    texts = svg_texts(path)
    first, second = (
        texts.index("30       75%  300 class 300 → 2 class 2"),
        texts.index("5       33%  7 class 7 → 9 class 9"),
    )
    assert first < second
    assert "<!-- class 17 -->" not in texts


def test_confusion_matrix_without_mistakes_says_so(tmp_path: Path) -> None:
    path = draw_confusion(np.eye(30, dtype=int), [f"class {index}" for index in range(30)], tmp_path / "confusion.svg")
    assert "<!-- No confusions -->" in svg_texts(path)
    assert "<!-- class 29 -->" in svg_texts(path)


def test_darker_cells_are_larger_shares_of_their_row_not_of_the_whole(tmp_path: Path) -> None:
    image = pixels(draw_confusion([[1000, 0], [1, 1]], ["a", "b"], tmp_path / "confusion.png"))
    blues = [tuple(color) for color in np.unique(image.reshape(-1, 3), axis=0)]
    full, half, none = (8, 48, 107), (106, 174, 214), (247, 251, 255)
    assert {full, none} <= set(blues)
    assert any(np.abs(np.subtract(color, half)).max() < 4 for color in blues)


def test_confusion_matrix_of_another_size_than_the_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"3 classes is square, got \[2, 2\]"):
        draw_confusion([[1, 0], [0, 1]], ["a", "b", "c"], tmp_path / "confusion.png")


def test_contact_sheet_puts_pictures_in_rows_from_left_to_right(tmp_path: Path) -> None:
    colors = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 0, 250), (0, 250, 250)]
    pictures = [plain(color, 48, 64) for color in colors]
    image = pixels(contact_sheet(pictures, list("abcde"), tmp_path / "sheet.png", columns=2))
    boxes = [box_of(image, color) for color in colors]
    tops, lefts = [box[0] for box in boxes], [box[2] for box in boxes]
    assert tops[0] == tops[1] < tops[2] == tops[3] < tops[4]
    assert lefts[0] == lefts[2] == lefts[4] < lefts[1] == lefts[3]
    for top, bottom, left, right in boxes:
        assert (right - left) / (bottom - top) == pytest.approx(64 / 48, rel=0.03)


def test_strip_shows_its_frames_side_by_side_in_order(tmp_path: Path) -> None:
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    strip = np.stack([plain(color, 40, 40) for color in colors])
    image = pixels(contact_sheet([strip], ["moving"], tmp_path / "sheet.png", columns=3))
    boxes = [box_of(image, color) for color in colors]
    assert boxes[0][3] < boxes[1][2] and boxes[1][3] < boxes[2][2]
    assert len({(box[0], box[1]) for box in boxes}) == 1


def test_captions_are_green_where_right_and_red_where_wrong(tmp_path: Path) -> None:
    pictures = [plain((128, 128, 128), 64, 64)] * 2
    image = pixels(contact_sheet(pictures, ["MMMM", "MMMM"], tmp_path / "sheet.png", columns=2, correct=[True, False]))
    middle = image.shape[1] // 2
    assert excess(image, 1, over=0)[:, :middle].any() and not excess(image, 1, over=0)[:, middle:].any()
    assert excess(image, 0, over=1)[:, middle:].any() and not excess(image, 0, over=1)[:, :middle].any()
    black = pixels(contact_sheet(pictures, ["MMMM", "MMMM"], tmp_path / "sheet.png", columns=2))
    assert not excess(black, 1, over=0).any() and not excess(black, 0, over=1).any()


def test_long_captions_are_broken_and_stay_above_their_picture(tmp_path: Path) -> None:
    caption = "a caption of a good many words, far too long for the width of one small picture"
    pictures = [plain((0, 0, 250), 64, 64)] * 4
    image = pixels(contact_sheet(pictures, [caption] * 4, tmp_path / "sheet.png", columns=2))
    assert (image[:, :4] == 255).all() and (image[:, -4:] == 255).all() and (image[:2] == 255).all()
    assert (image < 60).all(axis=-1).any()  # there is black text


def test_dollar_signs_in_captions_are_dollar_signs(tmp_path: Path) -> None:
    path = contact_sheet([plain((0, 0, 0), 8, 8)] * 2, ["a$b", r"$\frac$"], tmp_path / "sheet.svg", columns=2)
    assert "<!-- a$b -->" in svg_texts(path) and r"<!-- $\frac$ -->" in svg_texts(path)


def test_contact_picture_is_what_the_sheet_shows(tmp_path: Path) -> None:
    pictures = [plain((0, 60 * index, 250), 64, 64) for index in range(3)]
    arguments = (pictures, ["a", "b", "c"])
    sheet = pixels(contact_sheet(*arguments, tmp_path / "sheet.png", columns=2, correct=[True, False, True]))
    picture = contact_picture(*arguments, columns=2, correct=[True, False, True])
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, sheet)


def test_sheet_takes_pictures_of_different_sizes(tmp_path: Path) -> None:
    shapes = [(24, 32), (320, 240), (1080, 1920), (10, 10)]
    pictures = [plain((0, 60 * index, 250), *shape) for index, shape in enumerate(shapes)]
    image = pixels(contact_sheet(pictures, [""] * 4, tmp_path / "sheet.png", columns=4))
    for index, (height, width) in enumerate(shapes):
        top, bottom, left, right = box_of(image, (0, 60 * index, 250))
        assert (right - left) / (bottom - top) == pytest.approx(width / height, rel=0.05)


def test_sheet_refuses_what_it_cannot_show(tmp_path: Path) -> None:
    picture = plain((0, 0, 0), 8, 8)
    with pytest.raises(ValueError, match="got 1, 2 and 0"):
        contact_sheet([picture], ["a", "b"], tmp_path / "sheet.png", columns=2)
    with pytest.raises(ValueError, match="got 0, 0 and 0"):
        contact_sheet([], [], tmp_path / "sheet.png", columns=2)
    with pytest.raises(ValueError, match="got 1, 1 and 2"):
        contact_sheet([picture], ["a"], tmp_path / "sheet.png", columns=2, correct=[True, False])
    for wrong in (picture.astype(np.float32), picture[..., :2], picture[:0]):
        with pytest.raises(ValueError, match="uint8, got"):
            contact_sheet([wrong], ["a"], tmp_path / "sheet.png", columns=2)


def test_contact_sheet_has_a_title_and_black_captions_beside_wrong_ones(tmp_path: Path) -> None:
    pictures = [plain((90, 90, 90), 40, 40)] * 2
    settings = {"columns": 2, "correct": [None, False], "title": "two samples", "height_inches": 3.0}
    vectors = contact_sheet(pictures, ["fine", "wrong"], tmp_path / "a.svg", **settings)
    assert "<!-- two samples -->" in svg_texts(vectors)
    large = pixels(contact_sheet(pictures, ["fine", "wrong"], tmp_path / "a.png", **settings))
    small = pixels(contact_sheet(pictures, ["fine", "wrong"], tmp_path / "b.png", columns=2))
    assert large.shape[0] > 1.8 * small.shape[0]
    captions = [part[: part.shape[0] // 5] for part in np.array_split(large, 2, axis=1)]
    is_red = [bool((excess(part, 0, over=2)).any()) for part in captions]
    assert is_red == [False, True]


def test_class_histogram_has_names_and_counts_of_every_split(tmp_path: Path) -> None:
    counts = {"train": [7, 0, 12], "validation": [3, 4, 2]}
    path = draw_class_histogram(counts, ["kick", "$hug$", "shake hands"], tmp_path / "classes.svg")
    texts = svg_texts(path)
    for text in ("kick", "$hug$", "shake hands", "train: 19 items", "0 to 12 a class, median 7", "validation: 9 items"):
        assert f"<!-- {text} -->" in texts
    for count in (7, 0, 12, 3, 4, 2):
        assert f"<!-- {count} -->" in texts
    assert texts.count("<!-- kick -->") == 1, "the splits share the names"


def test_class_histogram_of_many_classes_names_the_largest_and_the_smallest(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).permutation(400).tolist()
    path = draw_class_histogram({"train": counts}, [f"class {count}" for count in counts], tmp_path / "classes.svg")
    texts = svg_texts(path)
    places = [texts.index(f"class {count} ") for count in (399, 388, 11, 0)]
    assert places == sorted(places) and "class 200" not in texts


def test_class_histogram_of_one_empty_class_is_drawn(tmp_path: Path) -> None:
    image = pixels(draw_class_histogram({"train": [0]}, ["nothing"], tmp_path / "classes.png"))
    assert image.shape[0] > 100 and (image != 255).any()


def test_names_that_are_no_text_are_drawn_escaped(tmp_path: Path) -> None:
    classes = draw_class_histogram({"train": [1, 2]}, ["caf\udce9", "b"], tmp_path / "classes.svg")
    sheet = contact_sheet([plain((0, 0, 0), 8, 8)], ["caf\udce9"], tmp_path / "sheet.svg", columns=1)
    for path in (classes, sheet):
        assert r"<!-- caf\udce9 -->" in svg_texts(path)


def test_sheet_is_known_by_its_mark_and_nothing_else_is(tmp_path: Path) -> None:
    path = contact_sheet([plain((0, 0, 0), 8, 8)], ["a"], tmp_path / "sheet.png", columns=1, mark="of ours")
    assert has_mark(path, "of ours") and not has_mark(path, "of others")
    assert [other.name for other in tmp_path.iterdir()] == ["sheet.png"]
    path.write_bytes(b"a text that says of itself tEXtSource\0of ours")
    assert not has_mark(path, "of ours")
    contact_sheet([plain((0, 0, 0), 8, 8)], ["a"], path, columns=1)
    assert not has_mark(path, "of ours")
    assert not has_mark(tmp_path / "none.png", "of ours") and not has_mark(tmp_path, "of ours")
