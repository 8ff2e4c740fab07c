"""Re-encodes a folder of clips small, so that reading them costs less than training on them.

    python benchmarks/experiments/small_clips.py FOLDER OUT

Short side 64, every third frame, every frame a keyframe; the lists beside `videos/` are copied.
"""

import shutil
import sys
from fractions import Fraction
from pathlib import Path

import av

SHORT_SIDE, STRIDE = 64, 3


def re_encode(path: Path, out: Path) -> None:
    """Writes every third frame of a video, small."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path)) as video, av.open(str(out), "w") as small:
        stream = video.streams.video[0]
        scale = SHORT_SIDE / min(stream.width, stream.height)
        rate = Fraction(stream.average_rate or 25) / STRIDE
        encoder = small.add_stream("libx264", rate=rate, options={"crf": "16", "g": "1"})
        encoder.width, encoder.height = (2 * round(scale * side / 2) for side in (stream.width, stream.height))
        encoder.pix_fmt = "yuv420p"
        for number, frame in enumerate(video.decode(stream)):
            if number % STRIDE == 0:
                resized = frame.reformat(encoder.width, encoder.height, "yuv420p", interpolation="AREA")
                resized.pts, resized.time_base = number // STRIDE, 1 / rate
                small.mux(encoder.encode(resized))
        small.mux(encoder.encode())


def main(folder: Path, out: Path) -> None:
    """Re-encodes all videos of a folder and copies its lists."""
    for path in sorted((folder / "videos").rglob("*.mp4")):
        re_encode(path, out / path.relative_to(folder))
    for path in folder.iterdir():
        if path.is_file():
            shutil.copyfile(path, out / path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
