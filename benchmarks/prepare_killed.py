"""Kills `omnisource prepare` again and again, and holds what it ends with against an undisturbed run.

    python benchmarks/prepare_killed.py --kills 50

Videos are made for it. Every time all finished files are compared with those of the undisturbed run, byte for byte, and
looked at for whether one was done again; at the end the whole folders are compared.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="times to kill it, at most (%(default)s)")
    parser.add_argument("--videos", type=int, default=400, help="videos to make (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_videos(folder / "originals", arguments.videos)
        whole, out = folder / "whole", folder / "out"
        assert start(folder, whole).wait() == 0
        expected = contents(whole)
        kills = kill_until_finished(folder, out, expected, arguments.kills)
        found = contents(out)
        different = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
        assert not different, f"these differ: {different}"
        print(f"{kills} kills; {len(expected)} files, all equal to those of the undisturbed run")


def kill_until_finished(folder: Path, out: Path, expected: dict[str, bytes], most: int) -> int:
    """Returns how often the command was killed before it was left to end."""
    rng = random.Random(0)
    finished: dict[str, int] = {}
    kills = 0
    while kills < most:
        process = start(folder, out)
        count = len(finished)
        while process.poll() is None and sum(1 for _ in out.glob("*.mp4")) <= count:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 3))
        if process.poll() is not None:
            assert process.returncode == 0
            return kills
        process.kill()
        process.wait()
        kills += 1
        for name, modified_ns in finished.items():
            assert (out / name).stat().st_mtime_ns == modified_ns, f"{name} was done again"
        for path in out.glob("*.mp4"):
            assert path.read_bytes() == expected[path.name], f"{path.name} differs"
            finished[path.name] = path.stat().st_mtime_ns
        print(f"kill {kills}: {len(finished)} files are finished", flush=True)
    assert start(folder, out).wait() == 0
    return kills


def start(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "omnisource", "prepare", str(folder / "originals"), str(out), "--workers", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_videos(folder: Path, count: int) -> None:
    """Writes videos of 20 to 60 frames in which soft spots drift."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        spots = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        ground = av.VideoFrame.from_ndarray(spots, format="rgb24").reformat(240, 120).to_ndarray()
        with av.open(str(folder / f"{number:04d}.avi"), "w") as container:
            stream = container.add_stream("mpeg4", rate=30)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            for shift in range(int(rng.integers(20, 60))):
                pixels = np.ascontiguousarray(ground[:, shift : shift + 160])
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = shift, Fraction(1, 30)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
