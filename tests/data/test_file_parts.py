"""Parts of files: the right bytes or an error, from a disk and from a server."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from omnisource.data import file_parts
from omnisource.data.file_parts import OPEN_FILES, FilePart, read_part
from omnisource.errors import UnreadableMedia
from tests.http_server import serving

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_parts, "RETRY_SECONDS", (0.01, 0.01))


def written(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / "shard.tar"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (0, len(CONTENT)), (77, 3000), (len(CONTENT) - 1, 1), (5, 0)])
def test_part_of_a_file_is_read(tmp_path: Path, offset: int, size: int) -> None:
    path = written(tmp_path)
    assert read_part(FilePart(str(path), offset, size)) == CONTENT[offset : offset + size]


def test_part_that_goes_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(UnreadableMedia, match=rf"{path}: ends at byte {len(CONTENT)}, and the item at byte 10300"):
        read_part(FilePart(str(path), 10_200, 100))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableMedia, match=r"gone\.tar: cannot be read: No such file"):
        read_part(FilePart(str(tmp_path / "gone.tar"), 0, 1))


def test_file_that_took_the_place_of_another_is_read_anew(tmp_path: Path) -> None:
    path = written(tmp_path)
    part = FilePart(str(path), 1, 3)
    assert read_part(part) == b"\1\2\3"
    other = tmp_path / "other"
    other.write_bytes(b"abcdef")
    os.replace(other, path)
    assert read_part(part) == b"bcd"


def test_many_files_are_not_kept_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3 * OPEN_FILES):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(CONTENT)
        assert read_part(FilePart(str(path), number, 10)) == CONTENT[number : number + 10]
    assert len(os.listdir("/proc/self/fd")) <= before + OPEN_FILES


def test_part_travels_to_another_process() -> None:
    part = FilePart("shard.tar", 1, 2)
    assert pickle.loads(pickle.dumps(part)) == part


def test_part_is_fetched_from_a_server_and_nothing_else(tmp_path: Path) -> None:
    written(tmp_path)
    with serving(tmp_path) as server:
        url = f"{server.url}/shard.tar"
        assert read_part(FilePart(url, 77, 3000)) == CONTENT[77:3077]
        assert read_part(FilePart(url, len(CONTENT) - 5, 5)) == CONTENT[-5:]
        assert server.sent_bytes == 3005
        assert [wanted for _, _, wanted in server.requests] == ["bytes=77-3076", "bytes=10235-10239"]


def test_server_that_sends_everything_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    with serving(tmp_path) as server:
        server.supports_ranges = False
        with pytest.raises(UnreadableMedia) as caught:
            read_part(FilePart(f"{server.url}/shard.tar", 77, 3000))
        assert caught.value.path == f"{server.url}/shard.tar"
        assert caught.value.reason.startswith("10240 bytes came instead of 3000: the server does not support")


def test_connection_that_is_cut_is_refused_after_some_attempts(tmp_path: Path) -> None:
    written(tmp_path)
    with serving(tmp_path) as server:
        server.cut_bytes = 100
        with pytest.raises(UnreadableMedia, match=r"shard\.tar: cannot be read: "):
            read_part(FilePart(f"{server.url}/shard.tar", 77, 3000))
        assert len(server.requests) == 3


def test_part_beyond_the_end_of_a_remote_file_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    with serving(tmp_path) as server, pytest.raises(UnreadableMedia, match="only 40 of 100 bytes came"):
        read_part(FilePart(f"{server.url}/shard.tar", 10_200, 100))


def test_server_that_fails_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    written(tmp_path)
    with serving(tmp_path) as server:
        server.failures = 2
        assert read_part(FilePart(f"{server.url}/shard.tar", 7, 9)) == CONTENT[7:16]
        assert len(server.requests) == 3


def test_missing_remote_file_is_named_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with pytest.raises(UnreadableMedia, match=rf"{server.url}/gone\.tar: there is no such file"):
            read_part(FilePart(f"{server.url}/gone.tar", 0, 10))
        assert len(server.requests) == 1


def test_server_that_is_gone_is_named(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        url = f"{server.url}/shard.tar"
    with pytest.raises(UnreadableMedia, match=rf"{url}: cannot be read: "):
        read_part(FilePart(url, 0, 10))


def test_any_kind_of_url_is_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert read_part(FilePart(f"file://{path}", 77, 30)) == CONTENT[77:107]


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://127.0.0.1/a.tar", "pip install 'omnisource[remote]'"),
        ("s3://bucket/a.tar", "s3fs"),
        ("nonsense://a.tar", "Protocol not known: nonsense"),
    ],
)
def test_package_that_is_not_installed_is_named_with_the_remedy(url: str, remedy: str) -> None:
    code = (
        "import sys; sys.modules['aiohttp'] = sys.modules['s3fs'] = None\n"
        "from omnisource.data.file_parts import FilePart, read_part\n"
        "from omnisource.errors import UserError\n"
        "try:\n"
        f"    read_part(FilePart({url!r}, 0, 1))\n"
        "except UserError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.startswith(f"UserError {url}: ")
    assert remedy in found.stdout
