"""The way from media to scores: what goes through the model together, in which order results come, what is held."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from omnisource import Recognizer
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.sample import load_clip
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia
from omnisource.evaluation.classifier import Classifier, Scored
from omnisource.evaluation.protocol import Protocol, protocol_of_recipe
from tests.support.miniature import write_clips, write_images
from tests.support.tiny_checkpoints import untrained_recipe, untrained_recognizer

VIEWS = 6
"""Of a video: 2 clips x 3 crops. Images have one."""


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of videos 0 to 4, images 0 to 4, and `damaged.mp4` and `damaged.jpg`."""
    folder = tmp_path_factory.mktemp("classified")
    for number, path in enumerate(write_clips(folder, "moving left", 5)):
        path.rename(folder / f"{number}.mp4")
    for number, path in enumerate(write_images(folder, "n01440764", 5)):
        path.rename(folder / f"{number}.jpg")
    (folder / "damaged.mp4").write_text("no video")
    (folder / "damaged.jpg").write_text("no image")
    return folder


@pytest.fixture
def recognizer() -> Recognizer:
    return untrained_recognizer(untrained_recipe())


def protocol(views_at_a_time: int = 32) -> Protocol:
    return protocol_of_recipe(untrained_recipe(f"views_at_a_time={views_at_a_time}"))


def requests(media: Path, names: Sequence[str], views_at_a_time: int = 32) -> Iterator[SampleRequest]:
    for name in names:
        yield protocol(views_at_a_time).request(str(media / name), "video" if name.endswith("mp4") else "image")


def results(
    classifier: Classifier, media: Path, names: Sequence[str], *, is_grouped: bool = True
) -> dict[str, Tensor | UnreadableMedia]:
    """Returns what came of each file, in the order in which it came."""
    found: dict[str, Tensor | UnreadableMedia] = {}
    with WorkerPool(0, 60) as workers:
        for request, result in classifier.classify(requests(media, names), workers, is_grouped=is_grouped):
            name = Path(request.path).name
            if not isinstance(result, Scored):
                found[name] = result
                continue
            assert result.clip.key == request.key
            (scores,) = result.scores.values()
            assert list(result.scores) == ["kinetics400" if name.endswith("mp4") else "imagenet"]
            assert scores.shape == (3,) and scores.dtype == torch.float32 and scores.device.type == "cpu"
            found[name] = scores
    return found


@torch.inference_mode()
def scores_of_group(recognizer: Recognizer, media: Path, names: Sequence[str]) -> Tensor:
    """Returns the scores of files whose views go through the model in one forward: [N, 3]."""
    clips = [load_clip(request) for request in requests(media, names)]
    views = torch.cat([clip.frames for clip in clips])
    logits = recognizer.video_logits(views) if names[0].endswith("mp4") else recognizer.image_logits(views[:, :, 0])
    return logits.softmax(dim=1).unflatten(0, (len(names), -1)).mean(dim=1)


@pytest.mark.parametrize(
    ("views_at_a_time", "groups"),
    [
        (1, ["0.mp4"]),  # its views go one by one, which changes the last bits of a sum at most
        (2 * VIEWS, ["0.mp4 1.mp4", "2.mp4 3.mp4", "4.mp4"]),
        (3 * VIEWS - 1, ["0.mp4 1.mp4", "2.mp4 3.mp4", "4.mp4"]),
        (3 * VIEWS, ["0.mp4 1.mp4 2.mp4", "3.mp4 4.mp4"]),
        (3, ["0.jpg 1.jpg 2.jpg", "3.jpg 4.jpg"]),
        (32, ["0.mp4 1.mp4 2.mp4 3.mp4 4.mp4", "0.jpg 1.jpg 2.jpg 3.jpg 4.jpg"]),
        (32, ["0.mp4", "0.jpg 1.jpg", "1.mp4 2.mp4", "2.jpg"]),
    ],
)
def test_as_many_items_of_one_media_as_have_views_at_a_time_are_one_forward(
    recognizer: Recognizer, media: Path, views_at_a_time: int, groups: list[str]
) -> None:
    names = [name for group in groups for name in group.split()]
    found = results(Classifier(recognizer, protocol(views_at_a_time)), media, names)
    assert list(found) == names
    expected = torch.cat([scores_of_group(recognizer.eval(), media, group.split()) for group in groups])
    scores = torch.stack([found[name] for name in names])  # type: ignore[arg-type]
    if views_at_a_time == 1:
        torch.testing.assert_close(scores, expected)
    else:
        assert torch.equal(scores, expected)


def test_unreadable_items_come_in_their_place_and_split_no_group(recognizer: Recognizer, media: Path) -> None:
    names = ["damaged.mp4", "0.mp4", "damaged.jpg", "1.mp4", "2.mp4", "3.mp4"]
    found = results(Classifier(recognizer, protocol(3 * VIEWS)), media, names)
    assert list(found) == names
    assert all(isinstance(found[name], UnreadableMedia) for name in ("damaged.mp4", "damaged.jpg"))
    expected = scores_of_group(recognizer.eval(), media, ["0.mp4", "1.mp4", "2.mp4"])
    assert torch.equal(torch.stack([found[f"{number}.mp4"] for number in range(3)]), expected)  # type: ignore[arg-type]
    assert list(results(Classifier(recognizer, protocol()), media, ["damaged.mp4"])) == ["damaged.mp4"]
    assert results(Classifier(recognizer, protocol()), media, []) == {}


def test_items_that_are_not_grouped_have_the_scores_that_each_has_alone(recognizer: Recognizer, media: Path) -> None:
    names = ["0.jpg", "1.jpg", "damaged.jpg", "2.jpg", "0.mp4", "1.mp4"]
    classifier = Classifier(recognizer, protocol())
    found = results(classifier, media, names, is_grouped=False)
    assert list(found) == names
    for name in names:
        (alone,) = results(classifier, media, [name]).values()
        assert isinstance(alone, UnreadableMedia) or torch.equal(found[name], alone)  # type: ignore[arg-type]


def test_no_more_videos_are_loaded_ahead_than_go_through_the_model_together(
    recognizer: Recognizer, media: Path
) -> None:
    """Images, of which many more would go through it together, are no measure of what waits in memory."""
    classifier = Classifier(recognizer, protocol(views_at_a_time=3 * VIEWS))
    asked = 0

    def endless() -> Iterator[SampleRequest]:
        nonlocal asked
        for number in itertools.count():
            asked += 1
            yield protocol().request(str(media / f"{number % 5}.mp4"), "video")

    with WorkerPool(0, 60) as workers, contextlib.closing(classifier.classify(endless(), workers)) as classified:
        for done in range(1, 10):
            next(classified)
            assert asked <= done + 2 * 3  # a group in hand and a group ahead


def test_every_worker_has_two_items_to_load_whatever_their_views(recognizer: Recognizer, media: Path) -> None:
    classifier = Classifier(recognizer, protocol(views_at_a_time=1))
    asked = 0

    def endless() -> Iterator[SampleRequest]:
        nonlocal asked
        for number in itertools.count():
            asked += 1
            yield protocol().request(str(media / f"{number % 5}.mp4"), "video")

    with WorkerPool(2, 60) as workers, contextlib.closing(classifier.classify(endless(), workers)) as classified:
        next(classified)
        assert asked == 1 + 2 * 2


def test_results_do_not_wait_for_requests_that_are_far_ahead(recognizer: Recognizer, media: Path) -> None:
    classifier = Classifier(recognizer, protocol(views_at_a_time=4))
    asked = 0

    def endless() -> Iterator[SampleRequest]:
        nonlocal asked
        for number in itertools.count():
            asked += 1
            yield protocol().request(str(media / f"{number % 5}.jpg"), "image")

    with WorkerPool(0, 60) as workers:
        classified = classifier.classify(endless(), workers)
        for done in range(1, 41):
            next(classified)
            assert asked <= done + 2 * 4 + 1  # a group in hand and a group ahead
        classified.close()
        ticket = workers.submit(protocol().request(str(media / "0.jpg"), "image"))
        assert workers.any_result()[0] == ticket  # what was ahead is given up


def test_workers_change_no_score_and_load_ahead(recognizer: Recognizer, media: Path) -> None:
    names = ["0.mp4", "1.mp4", "0.jpg", "damaged.jpg", "1.jpg"]
    classifier = Classifier(recognizer, protocol())
    here = results(classifier, media, names)
    with WorkerPool(1, 60) as workers:
        found = [result for _, result in classifier.classify(requests(media, names), workers)]
    for name, result in zip(names, found, strict=True):
        if name == "damaged.jpg":
            assert isinstance(result, UnreadableMedia) and str(result) == str(here[name])
        else:
            assert isinstance(result, Scored)
            assert torch.equal(next(iter(result.scores.values())), here[name])  # type: ignore[arg-type]


def test_recognizer_is_in_evaluation_mode_for_the_time_being(recognizer: Recognizer, media: Path) -> None:
    before = {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}
    evaluated = results(Classifier(recognizer.eval(), protocol()), media, ["0.mp4", "0.jpg"])
    assert not recognizer.training
    trained = results(Classifier(recognizer.train(), protocol()), media, ["0.mp4", "0.jpg"])
    assert recognizer.training and all(module.training for module in recognizer.modules())
    for name, scores in trained.items():
        assert torch.equal(scores, evaluated[name])  # type: ignore[arg-type]
    assert all(torch.equal(tensor, before[name]) for name, tensor in recognizer.state_dict().items())


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_weights_have_the_type_of_the_precision(recognizer: Recognizer, precision: str) -> None:
    classifier = Classifier(recognizer.double(), protocol(), precision=precision)  # type: ignore[arg-type]
    expected = torch.float64 if precision == "float64" else torch.float32
    assert {parameter.dtype for parameter in classifier.recognizer.parameters()} == {expected}


def test_float64_scores_are_rounded_once_at_the_end(recognizer: Recognizer, media: Path) -> None:
    classifier = Classifier(recognizer.eval(), protocol(), precision="float64")
    for name, request in zip(["0.mp4", "1.mp4", "2.mp4"], requests(media, ["0.mp4", "1.mp4", "2.mp4"]), strict=True):
        with torch.inference_mode():
            logits = recognizer.video_logits(load_clip(request).frames)
        assert logits.dtype == torch.float64 and logits.shape == (VIEWS, 3)
        of_views = [[math.exp(value) for value in row] for row in logits.tolist()]
        shares = [[value / math.fsum(row) for value in row] for row in of_views]
        by_hand = torch.tensor([math.fsum(column) / VIEWS for column in zip(*shares, strict=True)], dtype=torch.float64)
        scores = results(classifier, media, [name])[name]
        assert torch.equal(scores, by_hand.float())  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_gpu_gives_the_scores_of_the_cpu(recognizer: Recognizer, media: Path) -> None:
    names = ["0.mp4", "1.mp4", "0.jpg"]
    here = results(Classifier(recognizer, protocol()), media, names)
    there = results(Classifier(recognizer, protocol(), device=torch.device("cuda", 0)), media, names)
    for name in names:
        torch.testing.assert_close(there[name], here[name], rtol=1e-2, atol=1e-3)
