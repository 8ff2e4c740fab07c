"""Resizing of uint8 frames in evaluation, bit for bit as OpenCV does it."""

from __future__ import annotations

import numpy as np

# OpenCV's weights of neighboring pixels are integers that sum to this.
WEIGHT_SCALE = 2048


def resized_shape(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Returns (height, width) of a frame after resizing its short side to `short_side` pixels."""
    scale = short_side / min(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


class Resize:
    """Bilinear resizing of [H, W, 3] uint8 without antialiasing, bit for bit as OpenCV's INTER_LINEAR does it.

    OpenCV counts in integers and cuts bits off in the vertical pass, which is why a general routine differs by a level
    here and there. Only the rows and columns that are asked for are computed.

    Source: opencv/opencv 4.x, modules/imgproc/src/resize.cpp: the coefficients of `resize`, and `VResizeLinear` of
    uchar.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int], rows: slice, columns: slice) -> None:
        self._is_identity = source == target
        self._rows, self._columns = rows, columns
        upper, lower, lower_weights = _neighbors(source[0], target[0], rows)
        self._source_rows, positions = np.unique(np.concatenate([upper, lower]), return_inverse=True)
        self._upper, self._lower = np.split(positions, 2)  # among the source rows that are read at all
        self._lower_weights = lower_weights[:, None, None]
        self._upper_weights = WEIGHT_SCALE - self._lower_weights
        self._left, self._right, right_weights = _neighbors(source[1], target[1], columns)
        self._right_sixteenths, self._right_rest = (
            part.astype(np.int16)[:, None, None] for part in np.divmod(right_weights, 16)
        )
        # Room for what comes between, because asking for new memory takes longer than the sums.
        num_rows, height, width = len(self._source_rows), len(upper), len(self._left)
        self._source = np.empty((num_rows, source[1], 3), np.uint8)
        self._source_columns = np.empty((source[1], 3, num_rows), np.uint8)
        self._picked = np.empty((width, 3, num_rows), np.uint8)
        self._wide, self._change, self._product = np.empty((3, width, 3, num_rows), np.int16)
        self._wide_rows = np.empty((num_rows, 3, width), np.int16)
        self._picked_rows = np.empty((height, 3, width), np.int16)
        self._sum, self._part = np.empty((2, height, 3, width), np.int32)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Returns the chosen rows and columns of the resized frame: [3, h, w] uint8."""
        if self._is_identity:
            return np.ascontiguousarray(frame[self._rows, self._columns].transpose(2, 0, 1))
        # This runs for every frame of every evaluation: columns lie as runs of bytes when columns are picked, rows when
        # rows are, and numbers have 16 bits for as long as they fit.
        frame.take(self._source_rows, axis=0, out=self._source, mode="clip")
        np.copyto(self._source_columns, self._source.transpose(1, 2, 0))  # [H', W, 3] -> [W, 3, H']
        self._resize_columns()
        np.copyto(self._wide_rows, self._wide.transpose(2, 1, 0))  # [w, 3, H'] -> [H', 3, w]
        self._scaled_rows(self._upper, self._upper_weights, self._sum)
        self._scaled_rows(self._lower, self._lower_weights, self._part)
        self._sum += self._part
        self._sum += 2
        self._sum >>= 2
        return self._sum.astype(np.uint8).transpose(1, 0, 2)  # [h, 3, w] -> [3, h, w]

    def _resize_columns(self) -> None:
        """Computes (left * (WEIGHT_SCALE - weight) + right * weight) >> 4, of which no part exceeds 16 bits."""
        self._source_columns.take(self._left, axis=0, out=self._picked, mode="clip")
        np.copyto(self._wide, self._picked)
        self._source_columns.take(self._right, axis=0, out=self._picked, mode="clip")
        np.subtract(self._picked, self._wide, out=self._change)
        self._wide *= np.int16(WEIGHT_SCALE >> 4)
        self._wide += np.multiply(self._change, self._right_sixteenths, out=self._product)
        self._change *= self._right_rest
        self._change >>= 4
        self._wide += self._change

    def _scaled_rows(self, rows: np.ndarray, weights: np.ndarray, result: np.ndarray) -> None:
        """Computes (row * weight) >> 16."""
        self._wide_rows.take(rows, axis=0, out=self._picked_rows, mode="clip")
        np.copyto(result, self._picked_rows)
        result *= weights
        result >>= 16


def _neighbors(source: int, target: int, wanted: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns, for each wanted pixel of a side, the two source pixels around it and the weight of the second."""
    centers = ((np.arange(target)[wanted] + 0.5) * (source / target) - 0.5).astype(np.float32)
    first = np.floor(centers).astype(np.int64)
    weights = np.rint((centers - first.astype(np.float32)) * np.float32(WEIGHT_SCALE)).astype(np.int32)
    return first.clip(0, source - 1), (first + 1).clip(0, source - 1), weights
