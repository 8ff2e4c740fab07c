"""Items in tar shards: on a disk and behind URLs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnisource.data.classes import class_names_of
from omnisource.data.datasets import find_problems, read_items
from omnisource.data.lists.items import Items
from omnisource.data.loading.pool.worker import outcome
from omnisource.data.loading.request import SampleRequest, request_of
from omnisource.data.loading.sample import load_clip
from omnisource.data.loading.workers import WorkerPool
from omnisource.data.shards import lookup
from omnisource.data.shards.index import INDEX_SUFFIX
from omnisource.data.shards.lookup import UnreadableShard, index_of, shard_version
from omnisource.data.shards.read import shard_places
from omnisource.data.shards.write import ShardFile, write_shards
from omnisource.errors import UnreadableMedia, UserError
from omnisource.files import byte_ranges, cache, mapped_table
from omnisource.files.byte_ranges import read_range
from omnisource.recipe.checks import shard_faults
from omnisource.recipe.data import Source, Split, TarShards
from tests.support.http_server import serving
from tests.support.media import moving_square, write_video

KEYS = ("a/b.c.mp4", "a/b c.mp4", "ü/._.mkv", "last.MP4")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNISOURCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(byte_ranges, "RETRY_SECONDS", (0.01, 0.01))


def packed(folder: Path, keys: Sequence[str] = KEYS, target_bytes: int = 8000) -> list[ShardFile]:
    """Packs files, whose bytes are random and no media, into `folder`; returns them."""
    rng = np.random.default_rng(0)
    (folder / "loose").mkdir(parents=True, exist_ok=True)
    files = []
    for number, key in enumerate(keys):
        path = folder / f"loose/file{number}{Path(key).suffix}"
        path.write_bytes(rng.bytes(1000 + number))
        files.append(ShardFile(path, key, number % 3))
    write_shards(files, folder, "train", target_bytes)
    return files


def write_tar(path: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def read(root: Path | str, *urls: str, names: tuple[str, ...] | None = None, **options: Any) -> Items:
    return read_items(str(root), TarShards(urls, **options), "video", names, 3 if names is None else None, "tiny")


def problems_of(root: Path, *urls: str, media: Any = "video", **options: Any) -> list[str]:
    _, found = find_problems(str(root), TarShards(urls, **options), media, None, 3, "tiny")
    return [str(problem).removeprefix(f"{root}/") for problem in found]


def content_of(items: Items) -> list[tuple[str, int, bytes]]:
    """Returns (key, label, bytes) of each item."""
    found = []
    for item in items:
        assert item.byte_range is not None
        found.append((item.key, item.label, read_range(item.byte_range)))
    return found


def as_packed(files: Sequence[ShardFile]) -> list[tuple[str, int, bytes]]:
    return [(file.key, file.label, file.path.read_bytes()) for file in files]


def make_index_useless(shard: Path) -> None:
    """Destroys the headers of a shard, so that only its index says what it holds; its size and time stay."""
    found, content = shard.stat(), bytearray(shard.read_bytes())
    content[:512] = bytes(512)
    shard.write_bytes(content)
    os.utime(shard, ns=(found.st_atime_ns, found.st_mtime_ns))


# On a disk


def test_what_was_packed_is_read(tmp_path: Path) -> None:
    files = packed(tmp_path)
    items = read(tmp_path, "train-{000000..000001}.tar")
    assert content_of(items) == as_packed(files)
    assert items.labels.dtype == np.int32
    assert items[3].path == f"{tmp_path}/train-000001.tar::000000003_last.mp4"
    assert items[-1] == items[3]
    assert items.class_counts(3).tolist() == [2, 1, 1]


def test_digest_is_that_of_a_list_with_the_same_keys_and_labels(tmp_path: Path) -> None:
    files = packed(tmp_path)
    (tmp_path / "list.txt").write_text("".join(f"{file.key}\t{file.label}\n" for file in files))
    loose = read_items(str(tmp_path), Split(list="list.txt"), "video", None, 3, "tiny", check_files=False)
    assert read(tmp_path, "train-{000000..000001}.tar").digest() == loose.digest()


def test_shard_without_an_index_is_scanned_once(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "x.tar", {"a/1.mp4": b"one", "a/1.cls": b"2\n", "2.avi": b"two", "2.cls": b"0"})
    expected = [("x.tar::a/1.mp4", 2, b"one"), ("x.tar::2.avi", 0, b"two")]
    assert content_of(read(tmp_path, "x.tar")) == expected
    assert Path(f"{shard}{INDEX_SUFFIX}").exists()
    make_index_useless(shard)
    assert [key for key, _, _ in content_of(read(tmp_path, "x.tar"))] == [key for key, _, _ in expected]


def test_index_is_kept_in_the_cache_where_it_cannot_lie_beside_the_shard(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "x.tar", {"1.mp4": b"one", "1.cls": b"2"})
    Path(f"{shard}{INDEX_SUFFIX}").write_text("somebody's own")
    assert content_of(read(tmp_path, "x.tar")) == [("x.tar::1.mp4", 2, b"one")]
    assert Path(f"{shard}{INDEX_SUFFIX}").read_text() == "somebody's own"
    assert len(list((tmp_path / "cache/shards").iterdir())) == 1
    make_index_useless(shard)
    assert len(read(tmp_path, "x.tar")) == 1


def test_old_indexes_are_removed_from_the_cache_and_used_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "KEPT_INDEXES", 1)
    monkeypatch.setattr(cache, "IN_USE_SECONDS", 50)
    for name in ("x", "y", "z"):
        shard = write_tar(tmp_path / f"{name}.tar", {"1.mp4": name.encode(), "1.cls": b"2"})
        Path(f"{shard}{INDEX_SUFFIX}").write_text("somebody's own")
    folder = tmp_path / "cache/shards"
    read(tmp_path, "x.tar")
    (of_x,) = folder.iterdir()
    read(tmp_path, "y.tar")
    (of_y,) = {*folder.iterdir()} - {of_x}
    for path in (of_x, of_y):
        os.utime(path, (0, 0))
    read(tmp_path, "x.tar")  # not made again, but used
    read(tmp_path, "z.tar")
    assert of_x.exists() and not of_y.exists()


@pytest.mark.parametrize("fault", ["stale", "damaged", "cut"])
def test_index_that_does_not_fit_is_made_again_and_that_is_said(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = write_tar(tmp_path / "x.tar", {"1.mp4": b"one", "1.cls": b"2"})
    read(tmp_path, "x.tar")
    index = Path(f"{shard}{INDEX_SUFFIX}")
    if fault == "stale":  # of the same size, which a list of labels easily is
        write_tar(shard, {"2.mp4": b"two", "2.cls": b"1"})
    else:
        shard_stat = shard.stat()
        index.write_bytes(index.read_bytes()[:-5] if fault == "cut" else index.read_bytes().replace(b'"2"', b'"1"'))
        os.utime(shard, ns=(shard_stat.st_atime_ns, shard_stat.st_mtime_ns))
    capsys.readouterr()
    expected = [("x.tar::2.mp4", 1, b"two")] if fault == "stale" else [("x.tar::1.mp4", 2, b"one")]
    assert content_of(read(tmp_path, "x.tar")) == expected
    assert f"{index}: is " in capsys.readouterr().err
    assert content_of(read(tmp_path, "x.tar")) == expected
    assert capsys.readouterr().err == ""


def test_index_that_cannot_be_read_is_said_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = write_tar(tmp_path / "x.tar", {"1.mp4": b"one", "1.cls": b"2"})
    index = Path(f"{shard}{INDEX_SUFFIX}")
    index.mkdir()
    assert content_of(read(tmp_path, "x.tar")) == [("x.tar::1.mp4", 2, b"one")]
    message = f"{index}: cannot be read: Is a directory; the headers of the shard are read instead\n"
    assert capsys.readouterr().err == message


def test_index_that_is_not_there_is_made_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tar(tmp_path / "x.tar", {"1.mp4": b"one", "1.cls": b"2"})
    read(tmp_path, "x.tar")
    assert capsys.readouterr().err == ""


def test_processes_that_make_one_index_at_once_do_not_meet(tmp_path: Path) -> None:
    contents = {f"{number:04d}.{suffix}": b"1" for number in range(300) for suffix in ("mp4", "cls")}
    write_tar(tmp_path / "x.tar", contents)
    code = (
        "import sys; from omnisource.data.datasets import read_items; from omnisource.recipe.data import TarShards\n"
        "print(read_items(sys.argv[1], TarShards(('x.tar',)), 'video', None, 3, 'tiny').digest())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate(timeout=200)[0] for process in processes}) == 1
    assert {process.returncode for process in processes} == {0}
    assert sorted(path.name for path in tmp_path.glob("x.tar*")) == ["x.tar", f"x.tar{INDEX_SUFFIX}"]


def test_large_sets_of_shards_are_read_once_and_then_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_table, "MEMORY_BYTES", 0)
    files = packed(tmp_path)
    shards = "train-{000000..000001}.tar"
    assert content_of(read(tmp_path, shards)) == as_packed(files)
    for index in tmp_path.glob(f"*{INDEX_SUFFIX}"):
        index.write_text("not looked at")
    assert content_of(read(tmp_path, shards)) == as_packed(files)
    later = (tmp_path / "train-000000.tar").stat().st_mtime + 5
    os.utime(tmp_path / "train-000000.tar", (later, later))
    assert content_of(read(tmp_path, shards)) == as_packed(files)  # the shard is looked at again
    assert [item.label for item in read(tmp_path, shards, names=("a", "b", "c"))] == [0, 1, 2, 0]


def test_media_and_labels_are_found_by_the_suffixes_that_are_set(tmp_path: Path) -> None:
    contents = {"1.left.mp4": b"l", "1.right.mp4": b"r", "1.json": b'{"action": "kick", "number": 2}', "1.label": b"1"}
    write_tar(tmp_path / "x.tar", contents)
    names = ("hug", "push", "kick")
    for suffix, expected in ((".LEFT.mp4", b"l"), ("right.mp4", b"r")):
        by_text = read(tmp_path, "x.tar", media_suffix=suffix, label_suffix="label", names=names)
        assert content_of(by_text) == [(f"x.tar::1.{suffix.lower().removeprefix('.')}", 1, expected)]
    for field in ("action", "number"):
        options = {"media_suffix": "left.mp4", "label_suffix": "json", "label_field": field}
        assert read(tmp_path, "x.tar", names=names, **options).labels.tolist() == [2]
    assert problems_of(tmp_path, "x.tar", label_suffix="label") == [
        "x.tar::1: no video in this sample; it has .left.mp4, .right.mp4, .json, .label"
    ]


def test_everything_that_is_wrong_is_reported_with_shard_and_sample(tmp_path: Path) -> None:
    contents = {
        **{"good.mp4": b"", "good.cls": b"0"},
        **{"large.mp4": b"", "large.cls": b"3"},
        **{"word.mp4": b"", "word.cls": b"kick"},
        **{"unlabeled.mp4": b"", "nothing.cls": b"0"},
        **{"two.mp4": b"", "two.avi": b"", "two.cls": b"0"},
        **{"binary.mp4": b"", "binary.cls": b"\xff", "good.json": b"{}"},
    }
    write_tar(tmp_path / "x.tar", contents)
    (tmp_path / "y.tar").write_bytes(b"no shard at all" * 100)
    assert problems_of(tmp_path, "x.tar", "y.tar", "z.tar") == [
        "x.tar: good.json: does not lie beside the other members of its sample",
        "x.tar::large: label 3 is outside the classes (allowed: 0 to 2)",
        "x.tar::word: label 'kick' is not a number (allowed: 0 to 2)",
        "x.tar::unlabeled: no label in this sample, which would be its member cls",
        "x.tar::nothing: no video in this sample; it has .cls",
        "x.tar::two: 2 members could be the video, set media_suffix; it has .mp4, .avi, .cls",
        "x.tar::binary: the member cls holds no label: it is no text, or longer than 65536 bytes",
        "y.tar: is no plain tar file: invalid header",
        "z.tar: missing shard",
    ]
    items, _ = find_problems(str(tmp_path), TarShards(("x.tar",)), "video", None, 3, "tiny")
    kept = ("good", "large", "word", "unlabeled", "binary")
    assert [item.key for item in items] == [f"x.tar::{name}.mp4" for name in kept]
    with pytest.raises(UserError) as caught:
        read(tmp_path, "x.tar")
    assert str(caught.value).startswith("source tiny: 7 problems in its items (tar shards)\n")
    assert "docs/data.md" in str(caught.value).splitlines()[-1]


@pytest.mark.parametrize("text", [b"[1]", b"{", b'{"label": null}', b'{"label": true}', b'{"label": 1.0}', b"7"])
def test_json_without_a_label_is_a_problem(tmp_path: Path, text: bytes) -> None:
    write_tar(tmp_path / "x.tar", {"1.mp4": b"", "1.json": text})
    (found,) = problems_of(tmp_path, "x.tar", label_suffix="json", label_field="label")
    assert found.startswith("x.tar::1: the ") and "field label" in found


def test_shards_without_samples_or_named_twice_are_problems(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {})
    assert problems_of(tmp_path, "x.tar") == ["x.tar: the shards are empty"]
    packed(tmp_path)
    assert problems_of(tmp_path, "train-000000.tar", "train-{000000..000001}.tar") == [
        "train-000000.tar: the shard is named twice"
    ]


def test_suffixes_count_by_the_media_of_the_source(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"1.JPG": b"", "1.cls": b"0"})
    assert problems_of(tmp_path, "x.tar", media="image") == []
    assert problems_of(tmp_path, "x.tar") == ["x.tar::1: no video in this sample; it has .jpg, .cls"]


def test_ranges_of_numbers_are_written_out(tmp_path: Path) -> None:
    places = shard_places("/data", TarShards(("a-{8..11}.tar", "b/{00..01}-{1..2}.tar", "/x.tar", "http://h/{0..1}")))
    assert places == [
        *("/data/a-8.tar", "/data/a-9.tar", "/data/a-10.tar", "/data/a-11.tar"),
        *("/data/b/00-1.tar", "/data/b/00-2.tar", "/data/b/01-1.tar", "/data/b/01-2.tar"),
        *("/x.tar", "http://h/0", "http://h/1"),
    ]
    assert shard_faults(TarShards(("a-{8..11}.tar",))) == []
    for shards, fault in (
        (TarShards(), "urls: is empty, and wants at least one shard"),
        (TarShards(("a{2..1}",)), "urls=a{2..1}: a range goes from the smaller number to the larger"),
        (TarShards(("a{x,y}",)), "urls=a{x,y}: braces stand around a range such as {000000..000012}"),
        (TarShards(("a",), label_suffix="json"), "label_field: is empty, and label_suffix=json needs the field"),
    ):
        assert shard_faults(shards)[0].startswith(fault)


def test_source_of_shards_has_the_classes_of_its_map_only(tmp_path: Path) -> None:
    source = Source("video", "classes", str(tmp_path), train=TarShards(("x.tar",)))
    assert class_names_of(source) is None


def test_reading_shards_does_not_import_torch(tmp_path: Path) -> None:
    packed(tmp_path)
    code = (
        "import sys; from omnisource.data.datasets import read_items; from omnisource.recipe.data import TarShards\n"
        "items = read_items(sys.argv[1], TarShards(('train-000000.tar',)), 'video', None, 3, 'tiny')\n"
        "sys.exit(len(items) != 2 or 'torch' in sys.modules or 'fsspec' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)


# From a server


def test_shards_are_read_from_a_server_with_their_indexes(tmp_path: Path) -> None:
    files = packed(tmp_path)
    with serving(tmp_path) as server:
        items = read("", f"{server.url}/train-{{000000..000001}}.tar")
        assert server.sent_bytes == sum(path.stat().st_size for path in tmp_path.glob(f"*{INDEX_SUFFIX}"))
        assert content_of(items) == as_packed(files)
        assert items[3].path == f"{server.url}/train-000001.tar::000000003_last.mp4"


def test_remote_shard_without_an_index_is_scanned_once_without_fetching_its_media(tmp_path: Path) -> None:
    contents = {"1.mp4": bytes(2**20), "1.cls": b"1", "2.mp4": b"\1" * 2**20, "2.cls": b"2"}
    write_tar(tmp_path / "x.tar", contents)
    with serving(tmp_path) as server:
        items = read("", f"{server.url}/x.tar")
        assert server.sent_bytes < 2**20
        assert [(label, content) for _, label, content in content_of(items)] == [
            (1, contents["1.mp4"]),
            (2, contents["2.mp4"]),
        ]
        before = server.sent_bytes
        assert read("", f"{server.url}/x.tar").digest() == items.digest()
        assert server.sent_bytes == before  # the index is in the cache
    assert not Path(f"{tmp_path}/x.tar{INDEX_SUFFIX}").exists()


def test_remote_shard_that_changed_is_scanned_again(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "x.tar", {"1.mp4": b"one", "1.cls": b"1"})
    with serving(tmp_path) as server:
        assert read("", f"{server.url}/x.tar").labels.tolist() == [1]
        write_tar(shard, {"2.mp4": b"two", "2.cls": b"2"})
        assert content_of(read("", f"{server.url}/x.tar")) == [("x.tar::2.mp4", 2, b"two")]


def test_index_on_a_server_that_is_of_another_shard_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = packed(tmp_path, target_bytes=10**6)
    index = tmp_path / f"train-000000.tar{INDEX_SUFFIX}"
    write_tar(tmp_path / "other.tar", {"1.mp4": bytes(20_000), "1.cls": b"1"})
    read(tmp_path, "other.tar")
    index.write_bytes((tmp_path / f"other.tar{INDEX_SUFFIX}").read_bytes())
    with serving(tmp_path) as server:
        assert content_of(read("", f"{server.url}/train-000000.tar")) == as_packed(files)
        assert f"{server.url}/{index.name}: is of another version of the shard" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["refused", "damaged"])
def test_index_that_a_server_does_not_give_whole_is_said_and_made_again(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = packed(tmp_path, target_bytes=10**6)
    index = tmp_path / f"train-000000.tar{INDEX_SUFFIX}"
    with serving(tmp_path) as server:
        if fault == "refused":
            server.broken = (index.name,)
        else:
            index.write_bytes(index.read_bytes()[:-5])
        assert content_of(read("", f"{server.url}/train-000000.tar")) == as_packed(files)
        reason = "cannot be read: ClientResponseError: 500" if fault == "refused" else "is damaged: its checksum"
        assert f"{server.url}/{index.name}: {reason}" in capsys.readouterr().err


def test_server_without_ranges_is_refused_where_the_index_would_have_to_be_made(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"1.mp4": bytes(200_000), "1.cls": b"1"})
    with serving(tmp_path) as server:
        server.supports_ranges = False
        (found,) = problems_of(Path(), f"{server.url}/x.tar")
        assert found.startswith(f"{server.url}/x.tar: the server does not support requests of ranges")


def test_server_that_fails_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    files = packed(tmp_path, target_bytes=10**6)
    with serving(tmp_path) as server:
        server.failures = 3  # fsspec asks twice for the size of a file
        assert content_of(read("", f"{server.url}/train-000000.tar")) == as_packed(files)


def test_missing_remote_shard_and_silent_server_are_problems(tmp_path: Path) -> None:
    packed(tmp_path)
    with serving(tmp_path) as server:
        found = problems_of(Path(), f"{server.url}/train-{{000001..000002}}.tar")
        assert found == [f"{server.url}/train-000002.tar: there is no such file"]
    with serving(tmp_path) as gone:
        url = f"{gone.url}/train-000000.tar"
    (found,) = problems_of(Path(), url)
    assert found.startswith(f"{url}: cannot be read: Client")


# Through the pipeline


def video_source(root: Path, train: Split | TarShards) -> Source:
    return Source("video", "classes", str(root), train=train)


def packed_videos(folder: Path, count: int = 4) -> list[ShardFile]:
    """Packs small real videos, and writes a list of the loose ones."""
    files = []
    for number in range(count):
        path = write_video(folder / f"{number}.mp4", moving_square(12, seed=number))
        files.append(ShardFile(path, path.name, number % 3))
    write_shards(files, folder, "train", 3 * path.stat().st_size)
    (folder / "list.txt").write_text("".join(f"{file.key} {file.label}\n" for file in files))
    return files


def requests_of(source: Source, items: Items) -> list[SampleRequest]:
    return [request_of("tiny", source, "train", items, index, seed=3, epoch=1) for index in range(len(items))]


def test_clips_from_shards_equal_those_from_files_also_through_workers_and_a_server(tmp_path: Path) -> None:
    files = packed_videos(tmp_path)
    loose = read_items(str(tmp_path), Split(list="list.txt"), "video", None, 3, "tiny")
    expected = [load_clip(request) for request in requests_of(video_source(tmp_path, Split(list="list.txt")), loose)]
    pattern = f"train-{{000000..{len(list(tmp_path.glob('train-*.tar'))) - 1:06d}}}.tar"
    with serving(tmp_path) as server, WorkerPool(2, 60) as workers:
        for place in (pattern, f"{server.url}/{pattern}"):
            shards = TarShards((place,))
            requests = requests_of(video_source(tmp_path, shards), read(tmp_path, place))
            assert [request.key for request in requests] == [file.key for file in files]
            tickets = [workers.submit(request) for request in requests]
            for ticket, clip in zip(tickets, expected, strict=True):
                found = workers.result(ticket)
                assert (found.key, found.label) == (clip.key, clip.label)
                assert found.frames.equal(clip.frames)


def test_shard_that_is_cut_in_the_middle_of_a_run_names_shard_and_member(tmp_path: Path) -> None:
    packed_videos(tmp_path)
    items = read(tmp_path, "train-000000.tar")
    shard = tmp_path / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:600])
    request = requests_of(video_source(tmp_path, TarShards(("train-000000.tar",))), items)[0]
    with pytest.raises(UnreadableMedia) as caught:
        load_clip(request)
    assert caught.value.path == request.path == f"{shard}::000000000_0.mp4"
    assert caught.value.reason.startswith("was replaced after its index was read (it had ")
    assert caught.value.reason.endswith(" bytes, and has 600); put it back, or start again")


@pytest.mark.parametrize("is_remote", [False, True])
def test_shard_that_is_replaced_by_one_of_its_length_in_the_middle_of_a_run_is_refused(
    tmp_path: Path, is_remote: bool
) -> None:
    packed_videos(tmp_path)
    shard, other = tmp_path / "train-000000.tar", tmp_path / "other.tar"
    with serving(tmp_path) as server, WorkerPool(1, 60) as workers:
        place = f"{server.url}/{shard.name}" if is_remote else shard.name
        request = requests_of(video_source(tmp_path, TarShards((place,))), read(tmp_path, place))[0]
        clip = workers.result(workers.submit(request))
        assert clip.frames.equal(load_clip(request).frames)
        other.write_bytes(shard.read_bytes())  # the bytes, too, are the same: any other file is refused
        os.utime(other, (5, 5))
        os.replace(other, shard)
        for found in (workers.result(workers.submit(request)), outcome(load_clip, request)):
            assert isinstance(found, UnreadableMedia)
            assert found.path == request.path and found.path.endswith(f"{place}::000000000_0.mp4")
            assert found.reason.startswith("was replaced after its index was read (its version was ")


def test_shard_that_is_replaced_while_its_headers_are_read_is_refused(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "x.tar", {"1.mp4": b"one", "1.cls": b"2"})
    before = shard_version(str(shard))
    write_tar(shard, {"2.mp4": b"two", "2.cls": b"1"})
    os.utime(shard, (5, 5))
    with pytest.raises(UnreadableShard, match="was replaced while it was read; start again"):
        index_of(str(shard), before)
    assert not Path(f"{shard}{INDEX_SUFFIX}").exists()


def test_json_members_of_our_shards_hold_what_the_index_says(tmp_path: Path) -> None:
    files = packed(tmp_path, target_bytes=10**6)
    with tarfile.open(tmp_path / "train-000000.tar") as archive:
        described = [json.load(archive.extractfile(info)) for info in archive if info.name.endswith("json")]  # pyright: ignore
    assert described == [{"key": file.key, "label": file.label} for file in files]
