"""Tables that are mapped from files: the same rows, kept once, and no private memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from omnisource.files import mapped_table
from omnisource.files.cache import cache_folder
from omnisource.files.mapped_table import KEPT_TABLES, MappedTable, TableWriter, keep_bytes, open_table

ROWS = [("a", "", 1, 2**40), ("ü b", "\udcff", -5, 0), ("", "日本", 2**31 - 1, -(2**40))] * 7000


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMNISOURCE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/lists"


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every table count as large."""
    monkeypatch.setattr(mapped_table, "MEMORY_BYTES", 0)


def write(rows=ROWS, key: str = "") -> MappedTable:
    writer = TableWriter(["first", "second"], {"small": np.int32, "large": np.int64})
    for row in rows:
        writer.add(*row)
    return writer.finish(key)


def rows_of(table: MappedTable) -> list[tuple[str, str, int, int]]:
    texts = []
    for name in ("first", "second"):
        blob, offsets = table[name].tobytes(), table[f"{name}.offsets"].tolist()
        parts = [blob[start:end] for start, end in zip(offsets, offsets[1:], strict=False)]  # noqa: RUF007
        texts.append([part.decode("utf-8", "surrogateescape") for part in parts])
    return list(zip(*texts, table["small"].tolist(), table["large"].tolist(), strict=True))


@pytest.mark.parametrize("count", [0, 1, len(ROWS)])
def test_small_table_stays_in_memory(own_cache: Path, count: int) -> None:
    table = write(ROWS[:count], "key")
    assert rows_of(table) == ROWS[:count]
    assert table.path == "" and list(own_cache.iterdir()) == []


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("count", [0, 1, len(ROWS)])
def test_large_table_is_mapped_and_found_again(own_cache: Path, count: int) -> None:
    table = write(ROWS[:count], "key")
    again = open_table("key")
    assert again is not None
    assert table.path == again.path == str(own_cache / "key.columns")
    assert os.listdir(own_cache) == ["key.columns"]
    for found in (table, again):
        assert rows_of(found) == ROWS[:count]
        assert not any(array.flags.writeable for array in found.arrays.values())
    assert open_table("other") is None


@pytest.mark.usefixtures("large")
def test_table_that_is_there_is_not_written_again(own_cache: Path) -> None:
    write(key="key")
    before = (own_cache / "key.columns").stat().st_ino
    write(key="key")
    assert (own_cache / "key.columns").stat().st_ino == before


@pytest.mark.usefixtures("large")
def test_table_without_a_key_leaves_nothing(own_cache: Path) -> None:
    table = write()
    assert rows_of(table) == ROWS
    assert table.path == "" and os.listdir(own_cache) == []


@pytest.mark.usefixtures("large")
def test_folder_that_cannot_be_written_to_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OMNISOURCE_CACHE", str(tmp_path / "file/cache"))
    table = write(key="key")
    assert rows_of(table) == ROWS and table.path == ""
    assert open_table("key") is None


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_table_that_is_cut_is_not_used_and_written_again(own_cache: Path, length: int) -> None:
    write(key="key")
    content = (own_cache / "key.columns").read_bytes()
    (own_cache / "key.columns").write_bytes(content[:length])
    assert open_table("key") is None
    assert rows_of(write(key="key")) == ROWS
    assert (own_cache / "key.columns").read_bytes() == content


def test_digest_tells_tables_apart() -> None:
    digests = []
    for rows in (ROWS[:2], ROWS[:3], [("ab", "", 1, 1)], [("a", "b", 1, 1)], [("a", "b", 1, 2)]):
        writer = TableWriter(["first", "second"], {"small": np.int32, "large": np.int64})
        for row in rows:
            writer.add(*row)
        digests.append(writer.digest())
    assert len(set(digests)) == 5


@pytest.mark.usefixtures("large")
def test_oldest_tables_go_but_none_that_may_be_in_use(own_cache: Path) -> None:
    write(key="first")
    now = time.time()
    for number in range(KEPT_TABLES + 4):
        (own_cache / f"old{number:02d}.columns").touch()
        seconds = now - 60 * 86400 - number
        os.utime(own_cache / f"old{number:02d}.columns", (seconds, seconds))
    (own_cache / "notes.txt").touch()
    os.utime(own_cache / "notes.txt", (0, 0))
    open_table("first")
    write(key="second")
    left = set(os.listdir(own_cache))
    assert left == {"first.columns", "second.columns", "notes.txt"} | {
        f"old{number:02d}.columns" for number in range(KEPT_TABLES - 2)
    }
    for number in range(KEPT_TABLES + 4):  # many, but of today
        (own_cache / f"new{number:02d}.columns").touch()
    write(key="third")
    assert len([name for name in os.listdir(own_cache) if name.startswith("new")]) == KEPT_TABLES + 4


def test_cache_folder_is_the_users_unless_another_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNISOURCE_CACHE", "/fast/disk")
    assert cache_folder() == Path("/fast/disk")
    monkeypatch.delenv("OMNISOURCE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/omnisource")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/omnisource")


def test_full_disk_is_reported_with_the_remedy(tmp_path: Path) -> None:
    code = (
        "import resource, numpy as np\n"
        "from omnisource.files.mapped_table import TableWriter\n"
        "from omnisource.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**24, 2**24))\n"
        "writer = TableWriter(['first'], {})\n"
        "try:\n"
        "    for _ in range(1000): writer.add('x' * 2**15)\n"
        "    writer.finish('key')\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "cannot be kept on the disk: File too large" in found.stdout
    assert "OMNISOURCE_CACHE=FOLDER" in found.stdout
    assert os.listdir(tmp_path / "cache/lists") == []


def test_no_room_in_any_folder_for_temporary_files_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code = (
        "import os, resource\n"
        "from omnisource.files import mapped_table\n"
        "from omnisource.errors import UserError\n"
        "mapped_table.MEMORY_BYTES = 1\n"
        f"os.environ['OMNISOURCE_CACHE'] = {str(tmp_path / 'file/none')!r}\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try:\n"
        "    mapped_table.keep_bytes('key', [3], [b'one'])\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert found.stdout.startswith("a list cannot be kept on the disk: No usable temporary directory"), found.stderr
    assert "set OMNISOURCE_CACHE=FOLDER" in found.stdout


@pytest.mark.usefixtures("large")
def test_old_tables_go_when_pieces_of_memory_are_kept(own_cache: Path) -> None:
    own_cache.mkdir(parents=True, exist_ok=True)
    for number in range(KEPT_TABLES + 4):
        (own_cache / f"old{number:02d}.columns").touch()
        os.utime(own_cache / f"old{number:02d}.columns", (1000 - number, 1000 - number))
    keep_bytes("key", [3], [b"one"])
    kept = {f"old{number:02d}.columns" for number in range(KEPT_TABLES - 1)}
    assert set(os.listdir(own_cache)) == {"key.columns"} | kept


@pytest.mark.parametrize("memory_bytes", [0, 2**23])
def test_pieces_of_memory_are_kept_byte_for_byte(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, memory_bytes: int
) -> None:
    monkeypatch.setattr(mapped_table, "MEMORY_BYTES", memory_bytes)
    pieces = [b"one", b"", bytes(range(256)) * 9, np.arange(5).tobytes()]
    chunks = [b"on", b"e", *(pieces[2][first : first + 1000] for first in range(0, 2304, 1000)), pieces[3]]
    table = keep_bytes("key", [len(piece) for piece in pieces], chunks)
    again = open_table("key")
    assert (again is None) == bool(memory_bytes)
    for kept in (table, again or table):
        assert [kept[str(number)].tobytes() for number in range(4)] == pieces
        assert kept["3"].view(np.int64).tolist() == [0, 1, 2, 3, 4]
