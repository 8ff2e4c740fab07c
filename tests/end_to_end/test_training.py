from __future__ import annotations

import dataclasses
import json
import re
import resource
import shutil
from collections import Counter
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from omnisource import Recipe, Recognizer
from omnisource.checkpoints.file import best_path, checkpoint_path, read_checkpoint, saved_checkpoints
from omnisource.cli.arguments import load_recipe
from omnisource.cli.main import main
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.data.loading.loader import Loader
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UserError
from omnisource.models.weights.published import to_published
from omnisource.randomness import seed_initialization, seed_microbatch
from omnisource.training.plan import make_plan
from omnisource.training.train import train
from omnisource.types import Batch
from tests.support.media import truncate
from tests.support.miniature import (
    OWN_DATA_CONFIG,
    PUBLISHED_CONFIG,
    make_class_folders,
    own_data_overrides,
    tiny_overrides,
)
from tests.support.tiny_runs import difference, lines_of, mixed_recipe, roots, step_lines, tiny_recipe, validation_lines

ONE_STEP = ("sources.kinetics400.batch_size=12", "validation.interval_epochs=0")
"""Overrides that make the run one step, of all 12 videos."""


def batches_of(recipe: Recipe, num_steps: int) -> list[list[tuple[Batch, ...]]]:
    """Returns the microbatches of the first steps of a run, loaded in this process."""
    resolved, names = resolve_classes(recipe)
    items = {name: read_split(resolved, names, name, "train") for name in recipe.sources}
    counted = {name: of_source for name, of_source in items.items() if of_source is not None}
    plan = make_plan(recipe, {name: len(of_source) for name, of_source in counted.items()}, num_processes=1)
    streams = [
        Stream(name, source, counted[name], plan.batch_sizes[name], recipe.seed)
        for name, source in recipe.sources.items()
    ]
    with WorkerPool(0, item_timeout_seconds=60) as workers:
        loader = Loader(streams, workers, plan.microbatches, range(plan.microbatches), UnreadableLog(0))
        return [next(loader) for _ in range(num_steps)]


def keys_of(steps: list[list[tuple[Batch, ...]]], source: str) -> list[str]:
    return [
        key
        for microbatches in steps
        for batches in microbatches
        for batch in batches
        if batch.source == source
        for key in batch.keys
    ]


def test_every_item_comes_exactly_once_an_epoch_of_its_source(data: Path) -> None:
    steps = batches_of(mixed_recipe(data), num_steps=6)  # two epochs of the run, 2 microbatches each
    videos = keys_of(steps, "kinetics400")
    assert len(videos) == 24
    assert Counter(videos[:12]) == Counter(videos[12:]) == Counter(dict.fromkeys(videos, 1))
    assert videos[:12] != videos[12:]
    images = keys_of(steps, "imagenet")  # 15 images, 4 a step: an epoch of theirs ends in the middle of a step
    assert len(images) == 24
    assert len(set(images[:15])) == 15
    assert len(set(images[15:])) == 9
    raw = keys_of(steps, "raw")  # 4 items, 2 a step
    assert [len(set(raw[start : start + 4])) for start in (0, 4, 8)] == [4, 4, 4]


def test_source_that_is_smaller_than_its_batch_gives_every_item_before_any_a_second_time(data: Path) -> None:
    recipe = mixed_recipe(data)
    raw = dataclasses.replace(recipe.sources["raw"], batch_size=6)
    steps = batches_of(dataclasses.replace(recipe, sources={**recipe.sources, "raw": raw}), num_steps=1)
    keys = keys_of(steps, "raw")
    assert len(keys) == 12
    assert [len(set(keys[start : start + 4])) for start in (0, 4, 8)] == [4, 4, 4]


def test_sources_end_together_and_the_run_says_with_which_batch(data: Path, tmp_path: Path) -> None:
    settings = ("validation.interval_epochs=0", "label_spaces.imagenet.num_classes=4")
    state = train(tiny_recipe(data, *settings), tmp_path)
    assert state.samples_seen == {"kinetics400": 12, "imagenet": 12}  # 15 // 6 = 2 images a step
    log = (tmp_path / "train.log").read_text()
    assert "source imagenet, train: classes without items: 1 of 4 (3)" in log
    assert "source imagenet: 15 images, batch 2 x 1 microbatches a step, ends with kinetics400" in log
    assert [line["samples"] for line in step_lines(tmp_path)] == [{"kinetics400": 2, "imagenet": 2}] * 6


@pytest.mark.parametrize("max_gradient_norm", ["0.5", "None"])
def test_first_step_equals_the_one_done_by_hand(data: Path, tmp_path: Path, max_gradient_norm: str) -> None:
    recipe = mixed_recipe(
        data,
        "validation.interval_epochs=0",
        "checkpoints.interval_steps=1",
        "checkpoints.keep_last=9",
        "label_spaces.kinetics400.label_smoothing=0.2",
        f"optimizer.max_gradient_norm={max_gradient_norm}",
        "optimizer.weight_decay=0.1",
    )
    train(recipe, tmp_path)
    line, after = step_lines(tmp_path)[0], read_checkpoint(checkpoint_path(tmp_path, 1)).state["model"]

    seed_initialization(recipe.seed)
    model = Recognizer(recipe.model, recipe.label_spaces).train()
    [microbatches] = batches_of(recipe, num_steps=1)
    weights = {"kinetics400": 1.0, "imagenet": 1.0, "raw": 0.5}
    smoothing = {"kinetics400": 0.2, "imagenet": 0.0}
    means, total = dict.fromkeys(weights, 0.0), torch.zeros(())
    for position, batches in enumerate(microbatches):
        seed_microbatch(recipe.seed, 0, position)
        for batch in batches:
            logits = model.logits(batch.clips[:, 0], batch.media, batch.head)
            # Cross entropy with smoothing, written out.
            targets = F.one_hot(batch.labels, 3) * (1 - smoothing[batch.head]) + smoothing[batch.head] / 3
            loss = -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()
            means[batch.source] += float(loss.detach()) / 2
            total = total + weights[batch.source] * loss / 2
    total.backward()
    norm = torch.stack([parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]).norm()

    assert line["losses"] == pytest.approx(means, rel=1e-5)
    assert line["total_loss"] == pytest.approx(float(total.detach()), rel=1e-5)
    assert line["gradient_norm"] == pytest.approx(float(norm), rel=1e-4)
    assert line["learning_rate"] == 0.01
    factor = min(1.0, 0.5 / float(norm)) if max_gradient_norm == "0.5" else 1.0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        moved = parameter.detach() - 0.01 * (factor * parameter.grad + 0.1 * parameter.detach())
        torch.testing.assert_close(after[name], moved, rtol=1e-4, atol=1e-5, msg=name)


def test_adamw_with_bfloat16_and_groups_goes_on_where_it_stopped(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        data,
        "sources.kinetics400.batch_size=4",
        "deterministic=True",
        "precision=bfloat16",
        "sources.kinetics400.sampling.clip_length=4",  # of 2 frames: see test_amp_trains_in_bfloat16
        "optimizer.method=adamw",
        "optimizer.decay_norm_and_bias=False",
        "checkpoints.interval_steps=1",
    )
    train(recipe, tmp_path / "whole")
    train(recipe, tmp_path / "resumed", resume=str(checkpoint_path(tmp_path / "whole", 2)))
    whole, resumed = (read_checkpoint(checkpoint_path(tmp_path / name, 3)).state for name in ("whole", "resumed"))
    assert difference(resumed, whole) == ""
    assert len(whole["optimizer"]["param_groups"]) == 2
    assert all(tensor.dtype != torch.bfloat16 for tensor in whole["model"].values())


def test_both_media_are_validated_and_the_main_source_chooses_the_best(tmp_path: Path) -> None:
    make_class_folders(tmp_path)
    recipe = load_recipe(
        str(OWN_DATA_CONFIG),
        [
            *own_data_overrides(num_epochs=4),
            f"sources.videos.root={tmp_path / 'my_data/videos'}",
            f"sources.images.root={tmp_path / 'my_data/images'}",
            "optimizer.learning_rate=0.05",
            "checkpoints.interval_steps=1",
            "checkpoints.keep_last=2",
        ],
    )
    state = train(recipe, tmp_path / "run")
    lines = validation_lines(tmp_path / "run")
    assert [(line["step"], line["epoch"], line["source"]) for line in lines] == [
        (6 * epoch, epoch, source) for epoch in (1, 2, 3, 4) for source in ("videos", "images")
    ]
    assert all(set(line["metrics"]) == {"top1", "top5", "mean_class_accuracy", "count"} for line in lines)
    assert {line["metrics"]["count"] for line in lines} == {6}
    top1 = {line["step"]: line["metrics"]["top1"] for line in lines if line["source"] == "videos"}
    best_step = max(top1, key=lambda step: (top1[step], -step))  # the first of equals
    assert (state.best_step, state.best_score) == (best_step, top1[best_step])
    assert read_checkpoint(best_path(tmp_path / "run")).state["step"] == best_step
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == ["best.pt", "step_000000023.pt", "step_000000024.pt"]
    assert read_checkpoint(best_path(tmp_path / "run")).class_names["image_classes"][0] == "n01440764"


def broken(data: Path, folder: Path, split: str = "videos_train") -> tuple[Path, Path]:
    """Returns a copy of the data in which one video is cut short, and that video."""
    shutil.copytree(data, folder)
    video = sorted((folder / "kinetics400" / split).rglob("*.mp4"))[0]
    return folder, truncate(video, 0.1)


def test_unreadable_video_stops_the_run_by_name_and_the_run_is_saved(data: Path, tmp_path: Path) -> None:
    copied, video = broken(data, tmp_path / "data")
    run = tmp_path / "run"
    settings = ("validation.interval_epochs=0", "seed=1")  # with this seed the video comes in the sixth step
    with pytest.raises(UserError) as stopped:
        train(tiny_recipe(copied, *settings), run)
    assert str(video) in str(stopped.value)
    assert "1 unreadable, 0 permitted" in str(stopped.value)
    [saved] = saved_checkpoints(run)
    assert f"The run is saved: {saved}. Continue it with --resume auto." in str(stopped.value)
    content = read_checkpoint(saved).state
    assert content["unreadable"] == {}
    assert content["step"] == step_lines(run)[-1]["step"] > 0
    # It stops there again, and goes on when the file is permitted.
    with pytest.raises(UserError, match="1 unreadable, 0 permitted"):
        train(tiny_recipe(copied, *settings), run, resume="auto")
    state = train(tiny_recipe(copied, *settings, "max_unreadable=1"), run, resume="auto")
    assert list(state.unreadable) == [str(video)]
    assert [line["step"] for line in step_lines(run)] == [1, 2, 3, 4, 5, 6]


def test_permitted_unreadable_video_is_replaced_counted_and_remembered(data: Path, tmp_path: Path) -> None:
    copied, video = broken(data, tmp_path / "data")
    settings = ("num_epochs=2", "max_unreadable=1", "validation.interval_epochs=0", "checkpoints.interval_steps=1")
    recipe = tiny_recipe(copied, *settings, "checkpoints.keep_last=99", "deterministic=True")
    state = train(recipe, tmp_path / "run")
    assert list(state.unreadable) == [str(video)]
    assert state.samples_seen["kinetics400"] == 24
    log = (tmp_path / "run/train.log").read_text()
    assert log.count("unreadable (1 of 1 permitted), replaced by the next item of its list") == 1
    assert "1 file could not be read, training samples replaced: 2" in log
    # Each of the two epochs has met it once, and says so.
    lines = [json.loads(line) for line in (tmp_path / "run/unreadable.jsonl").read_text().splitlines()]
    assert [(line["source"], line["epoch"], line["path"]) for line in lines] == [
        ("kinetics400", epoch, str(video)) for epoch in (0, 1)
    ]
    for line in lines:
        assert line["reason"] == state.unreadable[str(video)]
        assert line["replaced_by"] == line["index"] + 1 and line["replaced_by_path"] != line["path"]
        assert line["epoch"] * 6 < line["step"] <= line["epoch"] * 6 + 6
    assert state.replacements == {str(video): 2}
    # A run that continues between the two epochs knows of it, and replaces it as before.
    resumed = train(recipe, tmp_path / "other", resume=str(checkpoint_path(tmp_path / "run", 6)))
    assert difference(resumed.state_dict(), state.state_dict()) == ""
    written = (tmp_path / "other/unreadable.jsonl").read_text()
    assert written == "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines if line["step"] > 6)
    # One that does its last steps again has each replacement in the file once, as before.
    for step in range(4, 13):
        checkpoint_path(tmp_path / "run", step).unlink()
    train(recipe, tmp_path / "run", resume="auto")
    again = (tmp_path / "run/unreadable.jsonl").read_text()
    assert [json.loads(line) for line in again.splitlines()] == lines


def test_share_of_unreadable_files_may_be_permitted(data: Path, tmp_path: Path) -> None:
    copied, video = broken(data, tmp_path / "data")
    settings = ("validation.interval_epochs=0", "seed=1")
    with pytest.raises(UserError, match="1 unreadable, 0 permitted"):
        train(tiny_recipe(copied, *settings, "max_unreadable_share=0.03"), tmp_path / "strict")  # 27 items: 0.81 files
    state = train(tiny_recipe(copied, *settings, "max_unreadable_share=0.04"), tmp_path / "lenient")
    assert list(state.unreadable) == [str(video)]


def test_unreadable_video_in_validation_loses_no_step(data: Path, tmp_path: Path) -> None:
    copied, video = broken(data, tmp_path / "data", "videos_val")
    with pytest.raises(UserError) as stopped:
        train(tiny_recipe(copied), tmp_path / "run")
    assert str(video) in str(stopped.value)
    assert validation_lines(tmp_path / "run") == []
    assert [path.name for path in saved_checkpoints(tmp_path / "run")] == ["step_000000006.pt"]
    state = train(tiny_recipe(copied, "max_unreadable=1"), tmp_path / "run", resume="auto")
    [line] = validation_lines(tmp_path / "run")
    assert (line["step"], line["metrics"]["count"]) == (6, 5)
    assert state.best_step == 6


def test_source_of_which_nothing_can_be_read_ends_the_run_whatever_is_permitted(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data, tmp_path / "data")
    for image in (tmp_path / "data/imagenet").rglob("*.JPEG"):
        truncate(image, 0.1)
    overrides = tiny_overrides(more=[*roots(tmp_path / "data"), "max_unreadable=99"])
    assert main(["train", str(PUBLISHED_CONFIG), *overrides, "--work-dir", str(tmp_path / "run")]) == 2
    output = capsys.readouterr()
    first, remedy = output.err.splitlines()
    named = r"error: source imagenet: none of its 15 items can be read, such as (\S+\.JPEG): \w.*"
    found = re.fullmatch(named, first)
    assert found is not None and Path(found[1]).is_file()
    assert remedy == "omnisource check CONFIG says why each of them cannot; fix them, or take the source out."
    assert output.out.count("replaced by the next item of its list") == 15


def test_items_left_out_of_validations_are_written_down_and_not_read_again(data: Path, tmp_path: Path) -> None:
    copied, video = broken(data, tmp_path / "data", "videos_val")
    settings = ("num_epochs=2", "max_unreadable=1", "checkpoints.interval_steps=1", "ema_decay=0.9")
    recipe = tiny_recipe(copied, *settings, "checkpoints.keep_last=99", "deterministic=True")
    whole = train(recipe, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/unreadable.jsonl").read_text().splitlines()]
    wanted = {"kind": "validation", "source": "kinetics400", "index": 0, "path": str(video)}
    assert lines == [{**wanted, "step": step, "reason": whole.unreadable[str(video)]} for step in (6, 12)]
    assert f"left out of a validation: {tmp_path / 'run/unreadable.jsonl'}" in (tmp_path / "run/train.log").read_text()
    # What was left out once stays left out, also where reading had failed for a passing reason.
    intact = data / video.relative_to(copied)
    shutil.copy(intact, video)
    for step in range(7, 13):
        checkpoint_path(tmp_path / "run", step).unlink()
    train(recipe, tmp_path / "run", resume="auto")
    assert [line["metrics"]["count"] for line in validation_lines(tmp_path / "run")] == [5, 5]
    again = (tmp_path / "run/unreadable.jsonl").read_text()
    assert [json.loads(line) for line in again.splitlines()] == lines
    moved = (tmp_path / "run/unreadable.discarded.jsonl").read_text()
    assert [json.loads(line)["step"] for line in moved.splitlines()] == [12]


def test_run_that_ends_within_its_warm_up_says_so(data: Path, tmp_path: Path) -> None:
    warning = "the run ends within its warm-up of 3 epochs"
    for warmup_epochs, is_said in ((3, True), (0.5, False)):
        run = tmp_path / str(warmup_epochs)
        train(tiny_recipe(data, *ONE_STEP, f"schedule.warmup_epochs={warmup_epochs}"), run)
        assert (warning in (run / "train.log").read_text()) == is_said


def test_run_that_diverges_stops_and_leaves_its_checkpoints(data: Path, tmp_path: Path) -> None:
    settings = ("optimizer.learning_rate=1e30", "checkpoints.interval_steps=1", "validation.interval_epochs=0")
    with pytest.raises(UserError, match=r"(loss|gradient).* is not finite(.|\n)*[Ll]ower\s+optimizer.learning_rate"):
        train(tiny_recipe(data, *settings), tmp_path)
    assert saved_checkpoints(tmp_path)[-1].stem == f"step_{len(step_lines(tmp_path)):09d}"


def test_full_disk_leaves_the_previous_checkpoint_good(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(data, "checkpoints.interval_steps=1", "checkpoints.keep_last=2", "deterministic=True")
    train(recipe, tmp_path / "whole")
    run = tmp_path / "run"
    shutil.copytree(tmp_path / "whole", run)
    checkpoint_path(run, 6).unlink()  # as if it had been killed before
    good = checkpoint_path(run, 5).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))  # checkpoints are larger, all other files smaller
    try:
        with pytest.raises(UserError) as failed:
            train(recipe, run, resume="auto")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "step_000000006.pt: the checkpoint cannot be written: File too large" in str(failed.value)
    assert "Earlier checkpoints are untouched" in str(failed.value)
    assert checkpoint_path(run, 5).read_bytes() == good
    assert not [path for path in run.rglob("*") if path.name.endswith(".tmp")]
    train(recipe, run, resume="auto")
    assert lines_of(run) == lines_of(tmp_path / "whole")
    ours, theirs = (read_checkpoint(checkpoint_path(folder, 6)).state for folder in (run, tmp_path / "whole"))
    assert difference(ours, theirs) == ""


def test_work_dir_that_cannot_be_made_is_refused_by_name(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--work-dir .*file/run: cannot be written to: Not a directory"):
        train(tiny_recipe(data), tmp_path / "file/run")


def test_clips_for_which_torch_has_no_right_bfloat16_gradients_are_refused(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(data, "precision=bfloat16", "sources.kinetics400.sampling.clip_length=2")
    if torch.cuda.is_available():
        pytest.skip("the fault is that of torch on a CPU")
    with pytest.raises(UserError, match=r"sources\.kinetics400\.sampling\.clip_length=2 with precision=bfloat16"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def weights_after_a_step(data: Path, work_dir: Path, weights: Path, *more: str) -> dict[str, torch.Tensor]:
    """Returns the weights of a run that starts from a file and does one step too small to change them."""
    tiny_step = ("optimizer.learning_rate=1e-12", "optimizer.weight_decay=0", *ONE_STEP)
    recipe = tiny_recipe(data, *tiny_step, f"model.weights={weights}", *more)
    train(recipe, work_dir)
    return read_checkpoint(saved_checkpoints(work_dir)[-1]).state["model"]


def assert_loaded(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert theirs
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


def learned(recipe: Recipe, seed: int = 5) -> Recognizer:
    """Returns a recognizer with weights of its own."""
    torch.manual_seed(seed)
    return Recognizer(recipe.model, recipe.label_spaces)


def parameters(recognizer: torch.nn.Module, beginning: str = "") -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in recognizer.named_parameters() if name.startswith(beginning)}


def test_run_starts_from_a_published_checkpoint(data: Path, tmp_path: Path) -> None:
    trained = learned(tiny_recipe(data))
    published = {"meta": {}, "state_dict": to_published(trained.state_dict(), "imagenet", "kinetics400")}
    torch.save(published, tmp_path / "published.pth")
    assert_loaded(weights_after_a_step(data, tmp_path / "run", tmp_path / "published.pth"), parameters(trained))


def test_run_starts_from_an_own_checkpoint_with_new_heads_and_names_them(data: Path, tmp_path: Path) -> None:
    train(tiny_recipe(data, *ONE_STEP, "seed=3"), tmp_path / "first")
    before = read_checkpoint(checkpoint_path(tmp_path / "first", 1)).state["model"]
    after = weights_after_a_step(
        data, tmp_path / "run", checkpoint_path(tmp_path / "first", 1), "label_spaces.kinetics400.num_classes=4"
    )
    kept = {
        name: tensor
        for name, tensor in before.items()
        if not name.startswith("heads.kinetics400") and "running" not in name and "num_batches" not in name
    }
    assert_loaded(after, kept)
    assert after["heads.kinetics400.fc2.weight"].shape == (4, 8)
    log = (tmp_path / "run/train.log").read_text()
    assert "of other sizes, left as they were" in log
    assert "heads.kinetics400.fc2.weight: [3, 6] in the file, [4, 8] in the model" in log


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_run_starts_from_an_image_resnet_that_is_inflated(data: Path, tmp_path: Path, suffix: str) -> None:
    backbone = learned(tiny_recipe(data)).backbone.state_dict()
    # torchvision's names and shapes: 2-D kernels, and a classifier of its own.
    flat = {name: tensor.sum(dim=2) if tensor.ndim == 5 else tensor for name, tensor in backbone.items()}
    image_resnet = {**flat, "fc.weight": torch.randn(10, 32), "fc.bias": torch.randn(10)}
    path = tmp_path / f"resnet18{suffix}"
    if suffix == ".pth":
        torch.save(image_resnet, path)
    else:
        safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in image_resnet.items()}, path)
    after = weights_after_a_step(data, tmp_path / "run", path)
    kernel = after["backbone.layer4.1.conv1.weight"]
    assert kernel.shape[2] == 3
    torch.testing.assert_close(kernel.sum(dim=2), flat["layer4.1.conv1.weight"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(kernel[:, :, 0], kernel[:, :, 2], rtol=1e-5, atol=1e-6)
    log = (tmp_path / "run/train.log").read_text()
    assert "heads.imagenet.fc.{weight, bias}" in log  # what was not loaded is named
    assert " fc.{" in log.split("in the file, but not in the model (2)")[1]


def test_weights_of_another_depth_are_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    torch.save({"model": learned(tiny_recipe(data, "model.depth=34")).state_dict()}, tmp_path / "34.pth")
    with pytest.raises(UserError, match=r"depth 34 in the file, 18 in the model"):
        train(tiny_recipe(data, f"model.weights={tmp_path / '34.pth'}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
