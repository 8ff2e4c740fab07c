"""Scanning shards that anybody may have written, and keeping what was found."""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path

import pytest

from omnisource.data.shards.index import (
    INDEX_SUFFIX,
    Member,
    ShardIndex,
    ShardSample,
    format_index,
    is_index,
    parse_index,
    save_index,
    scan_file,
)


def write_tar(path: Path, contents: list[tuple[str, bytes]], tar_format: int = tarfile.PAX_FORMAT) -> Path:
    """Writes a tar file as webdataset's TarWriter does: with the time, a fractional number, in a header of its own."""
    with tarfile.open(path, "w", format=tar_format) as archive:
        for name, content in contents:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = time.time()  # pyright: ignore[reportAttributeAccessIssue] (as webdataset does)
            archive.addfile(info, io.BytesIO(content))
    return path


def names_of(index: ShardIndex) -> list[tuple[str, list[str]]]:
    return [(sample.name, [member.suffix for member in sample.members]) for sample in index.samples]


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_shards_of_other_writers_are_understood(tmp_path: Path, tar_format: int) -> None:
    contents = [
        ("a/b.c/0001.MP4", b"film" * 200),
        ("a/b.c/0001.cls", b"7"),
        (f"{'n' * 150}/0002.left.mp4", b""),
        (f"{'n' * 150}/0002.json", b'{"label": "\xc3\xbc"}'),
        ("日本.jpg", b"picture"),
        ("日本.txt", b"\xff\xfe"),
    ]
    path = write_tar(tmp_path / "x.tar", contents, tar_format)
    index = scan_file(path)
    assert index.problems == ()
    assert names_of(index) == [
        ("a/b.c/0001", ["mp4", "cls"]),
        (f"{'n' * 150}/0002", ["left.mp4", "json"]),
        ("日本", ["jpg", "txt"]),
    ]
    data = path.read_bytes()
    found = [member for sample in index.samples for member in sample.members]
    assert [data[member.offset : member.offset + member.size] for member in found] == [held for _, held in contents]
    assert [member.text for member in found] == [None, "7", None, '{"label": "ü"}', None, None]
    assert parse_index(format_index(index)) == index


def test_folders_links_and_marks_of_webdataset_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in (("a", tarfile.DIRTYPE), ("a/1.mp4", tarfile.REGTYPE), ("a/2.mp4", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo("__worker__/x.txt"))
    assert names_of(scan_file(tmp_path / "x.tar")) == [("a/1", ["mp4"])]


def test_members_that_make_no_sample_are_problems(tmp_path: Path) -> None:
    contents = [("1.mp4", b"a"), ("1.mp4", b"b"), ("2.mp4", b"c"), ("1.cls", b"0"), ("README", b"d")]
    index = scan_file(write_tar(tmp_path / "x.tar", contents))
    assert names_of(index) == [("1", ["mp4"]), ("2", ["mp4"])]
    assert index.problems == (
        "1.mp4: is there twice",
        "1.cls: does not lie beside the other members of its sample",
        "README: its name has no suffix, by which members of a sample are told apart",
    )


def test_hidden_and_foreign_members_are_left_out_as_in_folders(tmp_path: Path) -> None:
    foreign = ("._1.mp4", ".DS_Store", "a/.ipynb_checkpoints/1.mp4", "__MACOSX/a/1.mp4", "Thumbs.db", "@eaDir/1.mp4")
    contents = [("./1.mp4", b"a"), *((name, b"b") for name in foreign), ("./1.cls", b"0")]
    index = scan_file(write_tar(tmp_path / "x.tar", contents))
    assert names_of(index) == [("./1", ["mp4", "cls"])]
    assert index.problems == ()


def test_shard_that_is_cut_anywhere_is_noticed_and_promises_nothing_beyond_its_end(tmp_path: Path) -> None:
    contents = [(f"{number}.{suffix}", bytes(700)) for number in range(3) for suffix in ("mp4", "cls")]
    path = write_tar(tmp_path / "x.tar", contents, tarfile.GNU_FORMAT)
    data = path.read_bytes()
    end = 6 * (512 + 1024)
    for length in [*range(0, end, 256), end]:
        path.write_bytes(data[:length])
        try:
            index = scan_file(path)
        except ValueError as error:
            assert length < 512 and "is no plain tar file" in str(error)
            continue
        assert index.problems
        assert all(member.offset + member.size <= length for sample in index.samples for member in sample.members)


@pytest.mark.parametrize("header", range(1, 6))
def test_header_that_is_damaged_is_noticed(tmp_path: Path, header: int) -> None:
    """Python's own module takes a header that it does not understand for the end of the archive."""
    path = write_tar(tmp_path / "x.tar", [(f"{number}.mp4", bytes(700)) for number in range(6)], tarfile.GNU_FORMAT)
    data = bytearray(path.read_bytes())
    data[header * 1536 + 3] ^= 1
    path.write_bytes(data)
    index = scan_file(path)
    assert len(index.samples) == header
    assert index.problems == (f"cannot be read from byte {header * 1536} on: there is neither a file nor the end mark",)


def test_compressed_and_empty_files_are_no_shards(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("1.mp4"))
    (tmp_path / "empty.tar").touch()
    for name in ("x.tar.gz", "empty.tar"):
        with pytest.raises(ValueError, match="is no plain tar file"):
            scan_file(tmp_path / name)


def test_large_texts_and_small_media_are_not_kept_in_the_index(tmp_path: Path) -> None:
    index = scan_file(write_tar(tmp_path / "x.tar", [("1.json", b"x" * 70_000), ("1.jpg", b"y"), ("1.caption", b"z")]))
    assert [member.text for member in index.samples[0].members] == [None, None, "z"]


EXAMPLE = ShardIndex(
    size=10240,
    version="12",
    samples=(
        ShardSample("a\udcff/1", (Member("mp4", 512, 700), Member("cls", 2048, 1, "shake\nhands\u2028ü"))),
        ShardSample("2", (Member("jpg", 4096, 0),)),
    ),
    problems=("3.mp4: is there twice",),
)


def test_index_survives_being_kept() -> None:
    assert parse_index(format_index(EXAMPLE)) == EXAMPLE
    assert is_index(format_index(EXAMPLE))


def test_any_damage_of_an_index_is_noticed() -> None:
    content = format_index(EXAMPLE)
    for offset in range(len(content)):
        for damaged in (content[:offset], content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :]):
            try:
                assert parse_index(damaged) == EXAMPLE
            except ValueError:
                continue
            assert damaged.strip() == content.strip()


def test_index_is_written_once_and_never_over_a_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / f"x.tar{INDEX_SUFFIX}"
    save_index(EXAMPLE, path)
    before = path.stat()
    save_index(EXAMPLE, path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_ino == before.st_ino
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        save_index(EXAMPLE, path)
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == [path.name]
