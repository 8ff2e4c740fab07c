from __future__ import annotations

from pathlib import Path

import pytest

from omnisource.compare.budget import BACKWARD
from omnisource.compare.experiment import Experiment
from omnisource.compare.plan import Planner
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.errors import UserError
from omnisource.models.cost import count_multiply_adds
from omnisource.models.recognizer import Recognizer
from omnisource.recipe.loading import load_config
from tests.support.experiments import write_experiment

ALL = (
    '{"scratch": scratch(), "pretrained": pretrained(0.25), "joint": joint(), "frame": single_frame(), '
    '"still": still_clips()}'
)
COMPUTE = '{"compute": Budget("compute", video_steps=60, of="joint")}'


def test_equal_compute_is_equal_within_half_an_epoch_of_each_stage_and_counted_as_three_forward_passes(
    in_data: Path,
) -> None:
    path = write_experiment(in_data, variants=ALL, budgets=COMPUTE)
    planner = Planner(load_config(str(path), Experiment, "experiment"), in_data / "out")
    spent = {cell.variant: [job.spent for job in planner.runs(cell, 0, ())] for cell in planner.cells()}
    recipe = spent["joint"][0].recipe
    recognizer = Recognizer(recipe.model, recipe.label_spaces)
    videos, images = recipe.sources["kinetics400"], recipe.sources["imagenet"]
    size = videos.training_view.crop_size
    of_video = count_multiply_adds(recognizer, "video", videos.sampling.clip_length, size, videos.label_space)
    of_image = count_multiply_adds(recognizer, "image", 1, images.training_view.crop_size, images.label_space)
    assert videos.batch_size and images.batch_size
    step = BACKWARD * (videos.batch_size * of_video + images.batch_size * of_image)
    assert spent["joint"][0].steps == 60 and spent["joint"][0].multiply_adds == 60 * step
    for stages in spent.values():
        epochs = [stage.multiply_adds / stage.recipe.num_epochs for stage in stages]
        assert sum(stage.multiply_adds for stage in stages) == pytest.approx(60 * step, abs=sum(epochs) / 2 + 1)
    before, after = spent["pretrained"]
    assert before.multiply_adds / (before.multiply_adds + after.multiply_adds) == pytest.approx(0.25, abs=0.05)
    steps = [spent[variant][0].steps for variant in ("still", "joint", "scratch", "frame")]
    assert steps == sorted(set(steps))


def test_planning_writes_nothing_and_a_run_finds_its_lists_and_stills(in_data: Path) -> None:
    path = write_experiment(in_data, variants=ALL, budgets=COMPUTE)
    planner = Planner(load_config(str(path), Experiment, "experiment"), in_data / "out")
    jobs = [job for cell in planner.cells() for job in planner.runs(cell, 0, ())]
    assert not (in_data / "out").exists()
    planner.files.write()
    planner.files.write()
    recipe, names = resolve_classes(jobs[-1].spent.recipe)
    for name in recipe.sources:
        items = read_split(recipe, names, name, "train")
        assert items is not None and all(Path(items[index].path).exists() for index in range(len(items)))
    stills = list((in_data / "out/stills/imagenet").glob("*/00001.still"))
    assert len(stills) == 15 and all(still.is_symlink() and still.stat().st_size for still in stills)


@pytest.mark.parametrize(("group", "message"), [('("none",)', "'none'; the classes are"), ("()", "it is empty")])
def test_groups_of_unknown_classes_are_refused_before_anything_runs(in_data: Path, group: str, message: str) -> None:
    path = write_experiment(in_data, more=f"class_groups={{'twin': {group}}},")
    planner = Planner(load_config(str(path), Experiment, "experiment"), in_data / "out")
    with pytest.raises(UserError, match=message):
        planner.runs(next(planner.cells()), 0, ())
