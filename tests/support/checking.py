"""What the tests of `omnisource check` share: runs of the command, and what its report says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omnisource.cli.main import main
from tests.support.miniature import PUBLISHED_CONFIG

CONFIG = str(PUBLISHED_CONFIG)

KINETICS, IMAGENET = Path("data/kinetics400"), Path("data/imagenet")

TRAIN_LIST = KINETICS / "kinetics400_train_list_videos.txt"

VALIDATION_LIST = KINETICS / "kinetics400_val_list_videos.txt"

REPORT = Path("work_dirs") / PUBLISHED_CONFIG.stem / "check"

SHARDS_CONFIG = """
from omnisource import LabelSpace, Recipe, Source, TarShards

recipe = Recipe(
    label_spaces={"things": LabelSpace(head="image", num_classes=2)},
    sources={
        "things": Source(
            media="image",
            label_space="things",
            root=".",
            train=TarShards(("train-{000000..000001}.tar",)),
            validation=TarShards(("validation-000000.tar",)),
            batch_size=2,
        )
    },
    main_source="things",
    num_epochs=1,
    num_workers=0,
)
"""


def report(folder: Path = REPORT) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def findings(kind: str | None = None) -> list[dict[str, str]]:
    return [finding for finding in report()["findings"] if kind in (None, finding["kind"])]


def split_summary(source: str, split: str) -> dict[str, Any]:
    return next(one for one in report()["splits"] if (one["source"], one["split"]) == (source, split))


def journal(folder: Path = REPORT) -> list[dict[str, Any]]:
    """Returns the lines of the journal after the first."""
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()[1:]]


def first_clip() -> Path:
    return KINETICS / "videos_train" / TRAIN_LIST.read_text().splitlines()[0].rsplit(" ", 1)[0]


def add_to_validation(*paths: Path) -> None:
    """Adds files, which are below the validation folder, to the validation list."""
    with VALIDATION_LIST.open("a") as file:
        file.writelines(f"{path.relative_to(KINETICS / 'videos_val')} 0\n" for path in paths)


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["check", *arguments])
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return code, output.out
