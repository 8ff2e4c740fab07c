"""Statistics of BatchNorm for both media, also where a file has those of one alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from omnisource.models.batch_norm import IMAGE_PREFIX
from omnisource.models.weights.formats import StateDict

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def with_statistics_of_both_media(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[StateDict, tuple[str, ...]]:
    """Returns weights in which images and videos have the statistics of the other where none were counted of their own.

    So videos that are trained from a run of images begin with its statistics, and images that are classified with
    weights of a format without statistics of their own go by the videos', as they always did.

    Args:
        state: Tensors by the recognizer's names.
        wanted: The recognizer's own, whose images may have statistics or not.

    Returns:
        The weights, and what is to be said of it.
    """
    completed = dict(state)
    taken = {"images": 0, "videos": 0}
    for layer in (name.removesuffix("running_mean") for name in wanted if name.endswith(".running_mean")):
        video, image = [f"{layer}{name}" for name in _BUFFERS], [f"{layer}{IMAGE_PREFIX}{name}" for name in _BUFFERS]
        if not _are_counted(state, video) and _are_counted(state, image):
            _copy(state, image, completed, video)
            taken["videos"] += not layer.startswith("heads.")  # a head for one media needs no other
        elif image[0] in wanted and video[0] in state and _are_only_of_videos(state, image, video):
            _copy(state, video, completed, image)
            taken["images"] += not layer.startswith("heads.")
    notes = [
        f"{count} BatchNorms have no statistics of {media} in the file; {media} begin with the others there"
        for media, count in taken.items()
        if count
    ]
    return completed, tuple(notes)


def without_image_statistics(state: Mapping[str, Tensor]) -> StateDict:
    """Returns the weights for a format that has one kind of statistics: the videos', or those of images alone."""
    wanted = {name: tensor for name, tensor in state.items() if not is_image_statistic(name)}
    completed, _ = with_statistics_of_both_media(state, wanted)
    return {name: tensor for name, tensor in completed.items() if not is_image_statistic(name)}


def is_image_statistic(name: str) -> bool:
    """Returns whether a tensor of this name is one of the statistics that images have of their own."""
    return name.rpartition(".")[2].startswith(IMAGE_PREFIX) and name.endswith(_BUFFERS)


def _are_counted(state: Mapping[str, Tensor], names: list[str]) -> bool:
    """Returns whether there are statistics, and batches counted into them as far as the file says."""
    mean, variance, batches = names
    if mean not in state or variance not in state:
        return False
    return batches not in state or state[batches].is_meta or bool(state[batches] > 0)


def _are_only_of_videos(state: Mapping[str, Tensor], image: list[str], video: list[str]) -> bool:
    return image[0] not in state or (not _are_counted(state, image) and _are_counted(state, video))


def _copy(state: Mapping[str, Tensor], origins: list[str], completed: StateDict, targets: list[str]) -> None:
    for origin, target in zip(origins, targets, strict=True):
        if origin in state:
            completed[target] = state[origin].clone()
