"""Small pictures of items, as the views of their evaluation show them: JPEG files in one archive."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch

from omnisource.data.lists.items import Items
from omnisource.data.loading.request import request_of
from omnisource.data.loading.sample import load_clip
from omnisource.errors import UserError
from omnisource.files.atomic import atomic_write
from omnisource.recipe.data import Source, SplitName
from omnisource.reporting.progress import progress_bar

_FRAMES, _VIDEO_HEIGHT, _IMAGE_HEIGHT, _QUALITY = 4, 96, 144, 80


def write_thumbnails(
    name: str, source: Source, split: SplitName, items: Items, indices: Sequence[int], path: Path
) -> None:
    """Writes the pictures of some items, `INDEX.jpg` each: the frame of an image, four frames of a video.

    Of an item whose file can no longer be read there is none.

    Raises:
        OSError: If the archive cannot be written; it names it.
    """
    field = f"{split}_views"
    one_view = dataclasses.replace(getattr(source, field), num_clips=1, num_crops=1)
    viewed = dataclasses.replace(source, **{field: one_view})
    with (
        atomic_write(path) as file,
        zipfile.ZipFile(file, "w") as archive,
        progress_bar(f"pictures of {name}", len(indices)) as advance,
    ):
        for index in indices:
            with contextlib.suppress(UserError):
                frames = load_clip(request_of(name, viewed, split, items, index)).frames[0]  # [3, T, H, W] uint8
                archive.writestr(f"{index}.jpg", _jpeg(frames, is_video=source.media == "video"))
            advance()


def _jpeg(frames: torch.Tensor, *, is_video: bool) -> bytes:
    """Returns a picture of [3, T, H, W] uint8 frames: some of them side by side."""
    from matplotlib.image import imsave  # a second of imports

    count = min(_FRAMES, frames.shape[1]) if is_video else 1
    positions = torch.linspace(0, frames.shape[1] - 1, count).round().long()
    shown = frames[:, positions].permute(1, 0, 2, 3).float()  # [3, T, H, W] -> [t, 3, H, W]
    height = min(_VIDEO_HEIGHT if is_video else _IMAGE_HEIGHT, shown.shape[2])
    size = (height, max(1, round(height * shown.shape[3] / shown.shape[2])))
    shown = torch.nn.functional.interpolate(shown, size, mode="area").round().byte()
    strip = shown.permute(2, 0, 3, 1).flatten(1, 2)  # [t, 3, h, w] -> [h, t w, 3]
    buffer = io.BytesIO()
    imsave(buffer, strip.contiguous().numpy(), format="jpg", pil_kwargs={"quality": _QUALITY})
    return buffer.getvalue()
