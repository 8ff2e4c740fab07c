from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from omnisource.demo.media import CLIP_CLASSES, DIGITS, make_demo_media
from omnisource.errors import UserError

TIMES = np.arange(24)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "media"
    make_demo_media(folder)
    return folder


def entries(media: Path, kind: str, part: str) -> list[tuple[str, int]]:
    lines = (media / kind / f"{part}.txt").read_text().splitlines()
    return [(path, int(label)) for path, label in (line.split(" ") for line in lines)]


def scan_of(path: str) -> int:
    return int(Path(path).stem.split("_")[-1])


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def centers(frames: np.ndarray) -> np.ndarray:
    """Returns the center of what is bright in every frame: [T, 2], x and y in pixels."""
    bright = frames.min(axis=-1) > 165  # strokes end at 150, digits begin at 190
    found = [np.argwhere(mask).mean(axis=0) if mask.any() else np.full(2, np.nan) for mask in bright]
    return np.stack(found)[:, ::-1]


def test_lists_name_every_file_once_with_its_class(media: Path) -> None:
    for kind, names in (("images", DIGITS), ("clips", CLIP_CLASSES)):
        assert tuple((media / kind / "classes.txt").read_text().split()) == names
        listed = [path for part in ("train", "held_out") for path, _ in entries(media, kind, part)]
        on_disk = [path.relative_to(media / kind).as_posix() for path in (media / kind).glob("*/*")]
        assert sorted(listed) == sorted(on_disk)
        for part in ("train", "held_out"):
            for path, label in entries(media, kind, part):
                assert path.startswith(f"{part}/{names[label]}_")


def test_every_class_has_few_training_clips_and_more_held_out(media: Path) -> None:
    for part, count in (("train", 6), ("held_out", 10)):
        labels = [label for _, label in entries(media, "clips", part)]
        assert np.bincount(labels).tolist() == [count] * 20


def test_every_scan_is_an_image_and_each_digit_is_split_alike(media: Path) -> None:
    train, held_out = (
        np.bincount([label for _, label in entries(media, "images", part)]) for part in ("train", "held_out")
    )
    assert (train + held_out).sum() == 1797
    assert held_out / (train + held_out) == pytest.approx(np.full(10, 0.25), abs=0.005)


def test_no_scan_of_a_held_out_image_or_clip_is_trained_on(media: Path) -> None:
    scans = {
        part: [scan_of(path) for kind in ("images", "clips") for path, _ in entries(media, kind, part)]
        for part in ("train", "held_out")
    }
    assert not set(scans["train"]) & set(scans["held_out"])
    for part in ("train", "held_out"):  # nor does a scan serve two clips
        of_clips = [scan_of(path) for path, _ in entries(media, "clips", part)]
        assert len(set(of_clips)) == len(of_clips)


def test_images_are_color_pictures_of_64_pixels(media: Path) -> None:
    path, _ = entries(media, "images", "train")[0]
    with Image.open(media / "images" / path) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))


def test_clips_have_24_frames_of_80_pixels_in_which_the_digit_goes_the_way_of_its_class(media: Path) -> None:
    for part in ("train", "held_out"):
        for path, label in entries(media, "clips", part)[::3]:
            frames = decode(media / "clips" / path)
            assert frames.shape == (24, 80, 80, 3)
            x, y = centers(frames).T
            seen = np.isfinite(x)
            assert seen.sum() >= 20
            pace_x, pace_y = (np.polyfit(TIMES[seen], place[seen], 1)[0] for place in (x, y))
            along, across = (pace_x, pace_y) if abs(pace_x) > abs(pace_y) else (pace_y, pace_x)
            names = ("left", "right") if along == pace_x else ("up", "down")
            assert CLIP_CLASSES[label].endswith(names[0] if along < 0 else names[1]), path
            assert abs(along) * 23 > 20 and abs(across) * 23 < 10, path


def test_clutter_differs_from_clip_to_clip(media: Path) -> None:
    corners = [
        decode(media / "clips" / path)[0, :6, :6].mean(axis=(0, 1)) for path, _ in entries(media, "clips", "train")[:8]
    ]
    distances = [np.abs(one - other).max() for index, one in enumerate(corners) for other in corners[:index]]
    assert min(distances) > 3


def test_same_seed_makes_the_same_bytes_whatever_a_stopped_run_left(media: Path, tmp_path: Path) -> None:
    leftover = tmp_path / "media.partial" / "clips" / "train" / "half.mp4"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    (tmp_path / "media").mkdir()  # an empty folder is as good as none
    make_demo_media(tmp_path / "media")
    one, other = (
        {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (media, tmp_path / "media")
    )
    assert sorted(one) == sorted(other) and len(one) == 1797 + 320 + 6 + 1
    assert [name for name in one if one[name] != other[name]] == []
    assert [path.name for path in tmp_path.iterdir()] == ["media"]


def test_another_seed_holds_other_scans_out(media: Path, tmp_path: Path) -> None:
    make_demo_media(tmp_path / "media", seed=1, training_clips=1, held_out_clips=1)
    chosen, others = (
        {scan_of(path) for path, _ in entries(folder, "images", "held_out")} for folder in (media, tmp_path / "media")
    )
    assert len(chosen & others) < 0.4 * len(chosen) == 0.4 * len(others)
    assert [label for _, label in entries(tmp_path / "media", "clips", "train")] == list(range(20))


def test_media_that_are_there_are_kept(media: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in media.rglob("*")}
    make_demo_media(media)
    assert {path: path.stat().st_mtime_ns for path in media.rglob("*")} == before


def test_media_of_another_seed_and_folders_of_other_things_are_left_alone(media: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"media: holds the demo's media of .*'seed': 0.*asked for are .*'seed': 3"):
        make_demo_media(media, seed=3)
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="holds something else than the demo's media"):
        make_demo_media(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_missing_scikit_learn_is_an_error_that_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['sklearn'] = None  # what an import finds where the package is not installed\n"
        "from omnisource.demo.media import make_demo_media\n"
        "from omnisource.errors import UserError\n"
        "try:\n"
        f"    make_demo_media({str(tmp_path / 'media')!r})\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert 'pip install "omnisource[demo]"' in result.stdout, result.stderr
    assert list(tmp_path.iterdir()) == []
