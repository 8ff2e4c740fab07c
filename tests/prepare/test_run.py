"""Preparing a folder: what is written, and output folders that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnisource.data.decoding.images import decode_image
from omnisource.errors import UserError
from omnisource.prepare.jobs import job_from_folder
from omnisource.prepare.run import Settings, prepare
from tests.support.media import numbered_frames, write_video
from tests.support.preparing import OURS, SMALL, numbers_in, prepared, tree


def test_tree_of_media_is_mirrored(originals: Path, tmp_path: Path) -> None:
    preparation = prepared(job_from_folder(str(originals)), tmp_path / "out")
    media = {"first.mp4", "deep/second.mp4", "deep/er/third one.mp4", "deep/small.png", "large.JPG"}
    assert set(tree(tmp_path / "out")) == media | OURS
    assert numbers_in(tmp_path / "out/first.mp4") == list(range(9))
    assert numbers_in(tmp_path / "out/deep/second.mp4") == list(range(100, 112))
    assert numbers_in(tmp_path / "out/deep/er/third one.mp4") == list(range(200, 207))
    assert decode_image(tmp_path / "out/large.JPG").shape == (32, 40, 3)
    assert (tmp_path / "out/deep/small.png").read_bytes() == (originals / "deep/small.png").read_bytes()
    assert (preparation.num_new, preparation.failures) == (5, [])
    assert "that are neither images nor videos, left out: 1 (1 .txt)" in str(preparation)


def test_originals_are_not_touched(originals: Path, tmp_path: Path) -> None:
    def state() -> dict[str, tuple[bytes, int]]:
        return {path: (content, (originals / path).stat().st_mtime_ns) for path, content in tree(originals).items()}

    before = state()
    prepared(job_from_folder(str(originals)), tmp_path / "out")
    assert state() == before


def test_workers_make_the_same_bytes(originals: Path, tmp_path: Path) -> None:
    job = job_from_folder(str(originals))
    prepared(job, tmp_path / "alone")
    prepare(job, tmp_path / "workers", SMALL, num_workers=2)
    assert tree(tmp_path / "alone") == tree(tmp_path / "workers")


def test_other_settings_are_refused_with_both(originals: Path, tmp_path: Path) -> None:
    job, out = job_from_folder(str(originals)), tmp_path / "out"
    prepared(job, out)
    before = tree(out)
    with pytest.raises(UserError, match=r"short_side: 32 before, 48 now\n.*remove"):
        prepared(job, out, Settings(short_side=48))
    assert tree(out) == before


def test_other_source_is_refused(originals: Path, tmp_path: Path) -> None:
    prepared(job_from_folder(str(originals)), tmp_path / "out")
    with pytest.raises(UserError, match=r"source: .*originals before, .*deep now"):
        prepared(job_from_folder(str(originals / "deep")), tmp_path / "out")


@pytest.mark.parametrize("where", ["", "inside", "..", "link"])
def test_output_among_the_originals_is_refused(originals: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "link").symlink_to(originals)
    out = tmp_path / "link/inside" if where == "link" else originals / where
    with pytest.raises(UserError, match="folder of the originals"):
        prepared(job_from_folder(str(originals)), out)
    assert not (originals / "inside").exists()


def test_folder_with_something_else_in_it_is_refused(originals: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds something else"):
        prepared(job_from_folder(str(originals)), out)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_file_that_was_put_there_is_not_overwritten(originals: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared(job_from_folder(str(originals)), out)
    write_video(originals / "new.mp4", numbered_frames(5, 40, 48))
    (out / "new.mp4").write_bytes(b"by hand")
    with pytest.raises(UserError, match=r"new\.mp4: not written by this command"):
        prepared(job_from_folder(str(originals)), out)
    assert (out / "new.mp4").read_bytes() == b"by hand"
