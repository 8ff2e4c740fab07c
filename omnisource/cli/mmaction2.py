"""The published command lines: their flags as overrides of ours, and hints for the keys of their configs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from omnisource.cli.arguments import path, path_text, resumed
from omnisource.cli.main import run
from omnisource.errors import UserError
from omnisource.paths import NoHomeFolder, with_home_folder

RENAMED_KEYS = {
    "train_dataloader.batch_size": "sources.NAME.batch_size",
    "train_dataloader.num_workers": "num_workers",
    "val_dataloader.num_workers": "num_workers",
    "test_dataloader.num_workers": "num_workers",
    "train_dataloader": "sources.NAME",
    "val_dataloader": "sources.NAME.validation",
    "test_dataloader": "sources.NAME.test",
    "optim_wrapper.optimizer.lr": "optimizer.learning_rate",
    "optim_wrapper.optimizer.momentum": "optimizer.momentum",
    "optim_wrapper.optimizer.weight_decay": "optimizer.weight_decay",
    "optim_wrapper.optimizer.type": "optimizer.method",
    "optim_wrapper.clip_grad": "optimizer.max_gradient_norm",
    "optim_wrapper.accumulative_counts": "accumulation",
    "optim_wrapper.type": "precision",
    "sync_bn": "sync_batch_norm",
    "auto_scale_lr.base_batch_size": "optimizer.base_batch_size",
    "auto_scale_lr.enable": "the flag --auto-scale-lr",
    "param_scheduler": "schedule",
    "train_cfg.max_epochs": "num_epochs",
    "train_cfg.val_interval": "validation.interval_epochs",
    "train_cfg.val_begin": "nothing: validation begins with the first interval",
    "default_hooks.checkpoint.interval": "checkpoints.interval_epochs",
    "default_hooks.checkpoint.max_keep_ckpts": "checkpoints.keep_last",
    "default_hooks.logger.interval": "log_interval_steps",
    "randomness.seed": "seed",
    "randomness.deterministic": "deterministic",
    "model.backbone.depth": "model.depth",
    "model.backbone.pretrained": "model.weights",
    "model.cls_head.num_classes": "label_spaces.NAME.num_classes",
    "model.cls_head.image_class_nums": "label_spaces.NAME.num_classes",
    "model.cls_head.dropout_ratio": "label_spaces.NAME.dropout",
    "model.cls_head.average_clips": "nothing: the softmax scores of the views are always averaged",
    "model.cls_head.loss_cls.label_smooth_eps": "label_spaces.NAME.label_smoothing",
    "model.data_preprocessor": "nothing: mean and std are those of the published recipe",
    "data_root": "sources.NAME.root",
    "data_root_val": "sources.NAME.validation.folder",
    "ann_file_train": "sources.NAME.train.list",
    "ann_file_val": "sources.NAME.validation.list",
    "ann_file_test": "sources.NAME.test.list (with its folder; where it is unset, the validation items are tested)",
    "video_root": "sources.NAME.root and sources.NAME.train.folder",
    "video_root_val": "sources.NAME.validation.folder",
    "video_ann_train": "sources.NAME.train.list",
    "video_ann_val": "sources.NAME.validation.list",
    "image_root": "sources.NAME.root and sources.NAME.train.folder",
    "image_ann_train": "sources.NAME.train.list",
    "batchsize_video": "sources.NAME.batch_size",
    "batchsize_image": "nothing: it follows from the counts, by sources.NAME.ends_with",
    "num_images": "nothing: sources are counted",
    "num_videos": "nothing: sources are counted",
    "num_gpus": "nothing: processes are counted",
    "image_dataloader": "sources.NAME",
    "train_cfg.other_loaders": "sources.NAME",
    "model.cls_head.image_classes": "label_spaces.NAME.num_classes",
    "model.cls_head.video_classes": "label_spaces.NAME.num_classes",
    "launcher": "the flag --launcher",
}
"""Keys of the published configs, or their beginnings, and where the same is set here."""


def train_main(arguments: Sequence[str] | None = None) -> int:
    """Runs `tools/train.py` and returns its exit code."""
    return run(lambda: _train(_train_parser().parse_args(arguments)))


def test_main(arguments: Sequence[str] | None = None) -> int:
    """Runs `tools/test.py` and returns its exit code."""
    return run(lambda: _test(_test_parser().parse_args(arguments)))


def _train_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/train.py", description="Trains a recipe, with the published flags.", allow_abbrev=False
    )
    parser.add_argument("config", type=path_text, help="Python file that builds `recipe`")
    parser.add_argument("--work-dir", type=path, help="where the run goes (work_dirs/NAME OF THE CONFIG)")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        default="",
        type=resumed,
        metavar="PATH",
        help="continue from PATH, or from the newest",
    )
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast; the same as precision=bfloat16")
    parser.add_argument("--no-validate", action="store_true", help="never validate; validation.interval_epochs=0")
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale the learning rate to the real batch")
    parser.add_argument("--seed", type=int, help="seed of the run; goes before a seed in the config")
    parser.add_argument("--diff-rank-seed", action="store_true", help="refused: processes never share random numbers")
    parser.add_argument("--deterministic", action="store_true", help="use deterministic algorithms only")
    _add_common(parser)
    return parser


def _test_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/test.py", description="Tests a checkpoint, with the published flags.", allow_abbrev=False
    )
    parser.add_argument("config", type=path_text, help="Python file that builds `recipe`")
    parser.add_argument("checkpoint", type=path_text, help="our own or a published checkpoint")
    parser.add_argument("--work-dir", type=path, help="where the report goes (a folder `test` beside the checkpoint)")
    parser.add_argument("--dump", type=path, help="file for the scores in the published form, .pkl")
    parser.add_argument("--show", action="store_true", help="refused: no windows are opened; use --show-dir")
    parser.add_argument("--show-dir", type=path, help="folder for pictures of the items with what was predicted")
    parser.add_argument("--interval", type=int, help="items from one picture of --show-dir to the next (1)")
    parser.add_argument("--ema", action="store_true", help="test the moving average of the weights")
    parser.add_argument("--wait-time", type=float, help="refused: it is the time a window of --show stays open")
    _add_common(parser)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="overrides")
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="what started the processes; none: torchrun, if its variables are set, or nobody",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, help="number of this process on its machine")


def _train(arguments: argparse.Namespace) -> int:
    from omnisource.cli.commands.train import run_training

    if arguments.diff_rank_seed:
        raise UserError(
            "--diff-rank-seed: not needed and so not taken. Order, augmentation and dropout are functions of the seed "
            "and of the microbatch, and no two processes share a microbatch; leave the flag out."
        )
    _prepare_processes(arguments)
    overrides, work_dir, resume = _translated(arguments.cfg_options)
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    if arguments.deterministic:
        overrides.append("deterministic=True")
    if arguments.amp:
        overrides.append("precision=bfloat16")
    if arguments.no_validate:
        overrides.append("validation.interval_epochs=0")
    return run_training(
        arguments.config,
        overrides,
        arguments.work_dir or work_dir,
        arguments.resume or resume,
        auto_scale_lr=arguments.auto_scale_lr,
    )


def _test(arguments: argparse.Namespace) -> int:
    from omnisource.cli.commands.test import run_test

    if arguments.show or arguments.wait_time is not None:
        raise UserError("--show, --wait-time: no windows are opened; write pictures with --show-dir FOLDER instead")
    if arguments.interval is not None and (arguments.show_dir is None or arguments.interval < 1):
        raise UserError(f"--interval {arguments.interval}: goes with --show-dir, and must be at least 1")
    _prepare_processes(arguments)
    overrides, work_dir, resume = _translated(arguments.cfg_options)
    if resume:
        raise UserError("--cfg-options resume: a test resumes nothing; name the checkpoint")
    if any(option.startswith("load_from=") for option in arguments.cfg_options):
        raise UserError("--cfg-options load_from: a test loads the checkpoint that is named after the config")
    return run_test(
        arguments.config,
        arguments.checkpoint,
        overrides,
        arguments.work_dir or work_dir,
        arguments.dump,
        arguments.show_dir,
        arguments.interval or 1,
        average=arguments.ema,
    )


def _prepare_processes(arguments: argparse.Namespace) -> None:
    """Sets the variables that say which process of how many this is, as the launcher flag asks."""
    from omnisource.distributed.slurm import describe_slurm_job

    if arguments.launcher == "mpi":
        raise UserError("--launcher mpi: is not supported; start the processes with torchrun (pytorch) or srun (slurm)")
    if arguments.launcher == "slurm":
        describe_slurm_job()
    if arguments.launcher == "pytorch" and "WORLD_SIZE" not in os.environ:
        raise UserError(
            "--launcher pytorch: the processes must be started by torchrun:\n"
            "torchrun --nproc-per-node GPUS tools/train.py CONFIG --launcher pytorch"
        )
    if arguments.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(arguments.local_rank))


def _translated(options: Sequence[str]) -> tuple[list[str], Path | None, str]:
    """Returns (overrides, work dir, what to resume) of --cfg-options.

    Raises:
        UserError: If keys of the published configs are used, naming ours.
    """
    overrides: list[str] = []
    hints: list[str] = []
    work_dir: Path | None = None
    resume = ""
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            hints.append(f"{option!r}: an override is written key=value")
        elif key == "resume":
            if value.lower() not in ("true", "false"):
                hints.append(f"{option}: wants True or False; continue from a certain file with --resume PATH")
            resume = "auto" if value.lower() == "true" else ""
        elif key == "work_dir":
            try:
                work_dir = Path(with_home_folder(value))
            except NoHomeFolder as error:
                hints.append(f"work_dir={error}")
        elif key == "load_from":
            overrides.append(f"model.weights={value}")
        elif (ours := _our_key(key)) is not None:
            hints.append(f"{key}: a key of the published configs; here it is {ours}")
        else:
            overrides.append(option)
    if hints:
        raise UserError(
            "\n".join(hints) + "\nAll keys: omnisource show CONFIG --keys. See docs/coming_from_mmaction2.md."
        )
    return overrides, work_dir, resume


def _our_key(key: str) -> str | None:
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        found = RENAMED_KEYS.get(".".join(parts[:length]))
        if found is not None:
            return found
    return None
