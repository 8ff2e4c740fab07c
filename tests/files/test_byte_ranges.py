"""Parts of files: the right bytes or an error, from a disk and from a server."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from omnisource.data.shards.lookup import shard_version
from omnisource.errors import UnreadableMedia
from omnisource.files import byte_ranges
from omnisource.files.byte_ranges import OPEN_FILES, ByteRange, FileVersion, local_version, read_range, version_of
from tests.support.http_server import serving

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_ranges, "RETRY_SECONDS", (0.01, 0.01))


def written(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / "shard.tar"
    path.write_bytes(content)
    return path


def part_of(path: Path, offset: int, size: int) -> ByteRange:
    return ByteRange(str(path), offset, size, local_version(path.stat()))


def behind(url: str, path: Path, offset: int, size: int) -> ByteRange:
    """Returns a part of the file that a server of the tests has, with the version that it tells."""
    found = path.stat()
    return ByteRange(url, offset, size, FileVersion(found.st_size, f'"{found.st_mtime_ns}"'))


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (0, len(CONTENT)), (77, 3000), (len(CONTENT) - 1, 1), (5, 0)])
def test_part_of_a_file_is_read(tmp_path: Path, offset: int, size: int) -> None:
    path = written(tmp_path)
    assert read_range(part_of(path, offset, size)) == CONTENT[offset : offset + size]


def test_part_that_goes_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(UnreadableMedia, match=rf"{path}: ends at byte {len(CONTENT)}, and the item at byte 10300"):
        read_range(part_of(path, 10_200, 100))


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnreadableMedia, match=r"gone\.tar: cannot be read: No such file"):
        read_range(ByteRange(str(tmp_path / "gone.tar"), 0, 1, FileVersion(1, "")))


@pytest.mark.parametrize("is_renamed", [True, False])
def test_file_that_took_the_place_of_another_of_its_length_is_refused(tmp_path: Path, is_renamed: bool) -> None:
    path = written(tmp_path)
    part = part_of(path, 1, 3)
    assert read_range(part) == b"\1\2\3"
    changed = path.stat().st_mtime_ns + 1
    other = tmp_path / "other" if is_renamed else path
    other.write_bytes(CONTENT[::-1])
    os.utime(other, ns=(changed, changed))  # the clock of some file systems is coarse
    os.replace(other, path)
    with pytest.raises(UnreadableMedia) as caught:
        read_range(part)
    assert caught.value.path == str(path)
    assert caught.value.reason == (
        f"was replaced after its index was read (its version was {part.file_version.version}, and is {changed}); put "
        "it back, or start again"
    )
    assert read_range(part_of(path, 1, 3)) == CONTENT[::-1][1:4]


def test_file_that_grew_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    part = part_of(path, 1, 3)
    written(tmp_path, CONTENT + b"more")
    with pytest.raises(UnreadableMedia, match=r"it had 10240 bytes, and has 10244"):
        read_range(part)


def test_many_files_are_not_kept_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3 * OPEN_FILES):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(CONTENT)
        assert read_range(part_of(path, number, 10)) == CONTENT[number : number + 10]
    assert len(os.listdir("/proc/self/fd")) <= before + OPEN_FILES


def test_part_travels_to_another_process() -> None:
    part = ByteRange("shard.tar", 1, 2, FileVersion(3, "4"))
    assert pickle.loads(pickle.dumps(part)) == part


def test_part_is_fetched_from_a_server_and_nothing_else(tmp_path: Path) -> None:
    path = written(tmp_path)
    with serving(tmp_path) as server:
        url = f"{server.url}/shard.tar"
        assert read_range(behind(url, path, 77, 3000)) == CONTENT[77:3077]
        assert read_range(behind(url, path, len(CONTENT) - 5, 5)) == CONTENT[-5:]
        assert server.sent_bytes == 3005
        assert [wanted for _, _, wanted in server.requests] == ["bytes=77-3076", "bytes=10235-10239"]


def replaced(path: Path) -> None:
    """Replaces a file by another of its length."""
    changed = path.stat().st_mtime_ns + 1
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(changed, changed))


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_remote_file_that_was_replaced_by_one_of_its_length_is_refused_without_another_request(
    tmp_path: Path, header: str
) -> None:
    path = written(tmp_path)
    with serving(tmp_path) as server:
        server.version_header = header
        url = f"{server.url}/shard.tar"
        part = ByteRange(url, 77, 3000, shard_version(url))
        assert part.file_version.version == f'"{path.stat().st_mtime_ns}"'
        server.requests.clear()
        assert read_range(part) == CONTENT[77:3077]
        replaced(path)
        with pytest.raises(UnreadableMedia) as caught:
            read_range(part)
        assert caught.value.path == url
        assert caught.value.reason.startswith("was replaced after its index was read (its version was ")
        assert [(method, wanted) for method, _, wanted in server.requests] == [("GET", "bytes=77-3076")] * 2
        assert read_range(ByteRange(url, 77, 3000, shard_version(url))) == CONTENT[::-1][77:3077]


def test_version_is_the_tag_be_it_weak_or_else_the_time() -> None:
    assert version_of({"Last-Modified": "yesterday", "ETag": '"1"'}) == '"1"'
    assert version_of({"ETag": 'W/"1"'}) == '"1"'  # some servers call a tag weak in one answer, and not in another
    assert version_of({"Last-Modified": "yesterday"}) == "yesterday"
    assert version_of({"Content-Type": "tar"}) == ""


def test_length_is_compared_where_a_server_tells_no_version(tmp_path: Path) -> None:
    path = written(tmp_path)
    with serving(tmp_path) as server:
        server.version_header = ""
        url = f"{server.url}/shard.tar"
        part = ByteRange(url, 77, 3000, shard_version(url))
        assert part.file_version == FileVersion(len(CONTENT), "")
        assert read_range(part) == CONTENT[77:3077]
        path.write_bytes(CONTENT + b"more")
        with pytest.raises(UnreadableMedia, match="it had 10240 bytes, and has 10244"):
            read_range(part)


def test_server_that_sends_everything_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    with serving(tmp_path) as server:
        server.supports_ranges = False
        with pytest.raises(UnreadableMedia) as caught:
            read_range(behind(f"{server.url}/shard.tar", path, 77, 3000))
        assert caught.value.path == f"{server.url}/shard.tar"
        assert caught.value.reason.startswith("10240 bytes came instead of 3000: the server does not support")


def test_connection_that_is_cut_is_refused_after_some_attempts(tmp_path: Path) -> None:
    path = written(tmp_path)
    with serving(tmp_path) as server:
        server.cut_bytes = 100
        with pytest.raises(UnreadableMedia, match=r"shard\.tar: cannot be read: "):
            read_range(behind(f"{server.url}/shard.tar", path, 77, 3000))
        assert len(server.requests) == 3


def test_part_beyond_the_end_of_a_remote_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    with serving(tmp_path) as server, pytest.raises(UnreadableMedia, match="only 40 of 100 bytes came"):
        read_range(behind(f"{server.url}/shard.tar", path, 10_200, 100))


def test_server_that_fails_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    path = written(tmp_path)
    with serving(tmp_path) as server:
        server.failures = 2
        assert read_range(behind(f"{server.url}/shard.tar", path, 7, 9)) == CONTENT[7:16]
        assert len(server.requests) == 3


def test_missing_remote_file_is_reported_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with pytest.raises(UnreadableMedia, match=rf"{server.url}/gone\.tar: there is no such file"):
            read_range(ByteRange(f"{server.url}/gone.tar", 0, 10, FileVersion(10, "")))
        assert len(server.requests) == 1


def test_server_that_is_gone_is_reported(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        url = f"{server.url}/shard.tar"
    with pytest.raises(UnreadableMedia, match=rf"{url}: cannot be read: "):
        read_range(ByteRange(url, 0, 10, FileVersion(10, "")))


def test_any_kind_of_url_is_read(tmp_path: Path) -> None:
    url = f"file://{written(tmp_path)}"
    assert read_range(ByteRange(url, 77, 30, shard_version(url))) == CONTENT[77:107]


def test_file_behind_another_kind_of_url_is_compared_when_a_process_first_reads_it(tmp_path: Path) -> None:
    path = written(tmp_path)
    url = f"file://{path}"
    part = ByteRange(url, 77, 30, shard_version(url))
    path.write_bytes(CONTENT[::-1])
    os.utime(path, (1, 1))
    with pytest.raises(UnreadableMedia, match=r"shard\.tar: was replaced after its index was read \(its version was "):
        read_range(part)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://127.0.0.1/a.tar", "pip install 'omnisource[remote]'"),
        ("s3://bucket/a.tar", "s3fs"),
        ("nonsense://a.tar", "Protocol not known: nonsense"),
    ],
)
def test_package_that_is_not_installed_is_reported_with_the_remedy(url: str, remedy: str) -> None:
    code = (
        "import sys; sys.modules['aiohttp'] = sys.modules['s3fs'] = None\n"
        "from omnisource.files.byte_ranges import ByteRange, FileVersion, read_range\n"
        "from omnisource.errors import UserError\n"
        "try:\n"
        f"    read_range(ByteRange({url!r}, 0, 1, FileVersion(1, '')))\n"
        "except UserError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.startswith(f"UserError {url}: ")
    assert remedy in found.stdout
