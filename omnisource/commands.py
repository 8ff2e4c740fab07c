"""What the commands do, for both command lines: ours (cli) and the published one (legacy)."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from omnisource.config import load_config
from omnisource.errors import UnreadableMedia, UserError
from omnisource.overrides import apply_overrides
from omnisource.progress import counted_progress
from omnisource.recipe import Recipe
from omnisource.types import Media


def load_recipe(config_path: str, overrides: Sequence[str]) -> Recipe:
    """Returns the recipe of a config file with the overrides applied."""
    return apply_overrides(load_config(config_path, Recipe), overrides)


def default_work_dir(config_path: str) -> Path:
    """Returns where a run goes that is told nothing else."""
    return Path("work_dirs") / Path(config_path).stem


def run_training(
    config_path: str, overrides: Sequence[str], work_dir: Path | None, resume: str, *, auto_scale_lr: bool
) -> int:
    """Trains; returns 0 at the end of the run, and 128 + the signal's number if a signal asked it to stop."""
    from omnisource import distributed
    from omnisource.resume import Interrupted
    from omnisource.train import train

    recipe = load_recipe(config_path, overrides)
    folder = work_dir or default_work_dir(config_path)
    try:
        train(recipe, folder, resume=resume, auto_scale_lr=auto_scale_lr, config_name=config_path)
    except Interrupted as stop:
        if distributed.rank() == 0:
            again = shlex.join([config_path, *overrides, "--work-dir", str(folder), "--resume", "auto"])
            scaled = " --auto-scale-lr" if auto_scale_lr else ""
            count = distributed.world_size()
            command = f"omnisource train {again}{scaled}"
            if count > 1:
                command = f"the command that started the {count} processes, and --resume auto"
            print(f"stopped and saved: {stop.checkpoint}\ncontinue with: {command}")
        distributed.stop()
        return 128 + stop.signal_number
    except (Exception, KeyboardInterrupt) as error:
        # `stop` could wait here for the other processes: what failed is shown first, and the group left as it is.
        if distributed.is_own_failure(error):
            raise
        return 1  # another process failed before, and shows why
    distributed.stop()
    return 0


def run_test(
    config_path: str,
    checkpoint: str,
    overrides: Sequence[str],
    work_dir: Path | None,
    dump: Path | None,
    show_dir: Path | None = None,
    show_interval: int = 1,
    *,
    average: bool = False,
) -> int:
    """Tests a checkpoint, or the moving average in it, on every source that has test items; returns 0."""
    from omnisource import distributed
    from omnisource.testing import test

    if dump is not None and dump.suffix not in (".pkl", ".pickle"):
        raise UserError(f"--dump {dump}: the file must end in .pkl or .pickle")
    recipe = load_recipe(config_path, overrides)
    folder = work_dir or Path(checkpoint).parent / "test"
    try:
        test(recipe, checkpoint, folder, dump, config_path, show_dir, show_interval, average=average)
    except (Exception, KeyboardInterrupt) as error:
        if distributed.is_own_failure(error):  # as in `run_training`
            raise
        return 1
    distributed.stop()
    return 0


def run_predict(checkpoint: str, files: Sequence[str], top: int, as_json: bool, *, average: bool = False) -> int:
    """Prints the best classes of every file; returns 0, or 2 if some could not be classified.

    Args:
        checkpoint: Our own or a published checkpoint.
        files: Images, videos and folders of them.
        top: Classes to name.
        as_json: Whether to print a JSON line a file and head.
        average: Whether to take the moving average of the weights in place of the weights.
    """
    from omnisource import distributed
    from omnisource.predict import load, media_files, predict

    loaded = load(checkpoint, average=average)
    loaded.recognizer.to(distributed.choose_device())
    found = media_files(files)
    failed = 0
    for path, media in found:
        try:
            predictions = list(predict(loaded, path, media, top))
        except UserError as error:  # one file's fault, so the others are still wanted
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            if as_json:
                reason = error.reason if isinstance(error, UnreadableMedia) else str(error)
                print(json.dumps({"path": path, "error": reason}, ensure_ascii=False), flush=True)
            continue
        for prediction in predictions:
            if as_json:
                top_classes = [{"class": name, "score": round(score, 6)} for name, score in prediction.top]
                line = {
                    "path": path,
                    "media": media,
                    "label_space": prediction.head,
                    "ema": average,
                    "top": top_classes,
                }
                print(json.dumps(line, ensure_ascii=False), flush=True)
            else:
                print(f"{path} ({prediction.head}{', moving average of the weights' if average else ''})")
                for name, score in prediction.top:
                    print(f"  {score:7.2%}  {name}")
    if failed:
        print(f"{failed} of {len(found)} files could not be classified", file=sys.stderr)
    return 2 if failed else 0


def run_show(config_path: str, overrides: Sequence[str], only_keys: bool) -> int:
    """Prints the keys of a recipe, or the recipe with its sizes and cost; returns 0."""
    from omnisource.show import print_keys, print_recipe

    recipe = load_recipe(config_path, overrides)
    if only_keys:
        print_keys(recipe)
    else:
        print_recipe(recipe)
    return 0


def run_checkpoint_show(checkpoint: Path, *, as_json: bool) -> int:
    """Prints what a checkpoint holds; returns 0.

    Raises:
        UserError: If it is missing, damaged, or of another format.
    """
    from omnisource.checkpoints import describe_checkpoint, print_checkpoint

    if as_json:
        print(json.dumps(describe_checkpoint(checkpoint), indent=2, ensure_ascii=False))
    else:
        print_checkpoint(checkpoint)
    return 0


def run_checkpoint_export(checkpoint: Path, target: Path, *, average: bool) -> int:
    """Writes the weights of a checkpoint alone; returns 0.

    Raises:
        UserError: If it cannot be read, or the target cannot be written.
    """
    from omnisource.checkpoints import export_checkpoint

    export_checkpoint(checkpoint, target, average=average)
    print(f"written: {target}")
    return 0


def run_check(
    config_path: str, overrides: Sequence[str], report: Path | None = None, pictures: Path | None = None
) -> int:
    """Checks all lists and files of a recipe; returns 0 if nothing is wrong, 2 if something is, 128 + n after signal n.

    Args:
        config_path: The config.
        overrides: Changes of it.
        report: Folder of the report; None: `check` in the folder of the config's runs.
        pictures: Gets a sheet of training samples of each source, before the files are read. None: none are drawn.

    Raises:
        UserError: If one of the folders has files of others in the place of ours, or nothing can be read at all.
    """
    from omnisource.batch_pictures import require_own
    from omnisource.check import CheckInterrupted, check

    recipe = load_recipe(config_path, overrides)
    folder = report or default_work_dir(config_path) / "check"
    if pictures is not None:
        require_own(recipe, pictures)
    is_drawn = pictures is None or _draw_batches(recipe, config_path, pictures)
    try:
        found = check(recipe, config_path, folder, overrides)
    except CheckInterrupted as stop:
        flags = ["--report", str(folder), *([] if pictures is None else ["--pictures", str(pictures)])]
        again = shlex.join([config_path, *overrides, *flags])
        print(f"stopped; what was read is kept in {folder}\ncontinue with: omnisource check {again}")
        return 128 + stop.signal_number
    return 2 if found.errors or not is_drawn else 0


def _draw_batches(recipe: Recipe, config_path: str, folder: Path) -> bool:
    """Draws training samples of each source and returns whether it could; the check says more of what is wrong."""
    from omnisource.batch_pictures import draw_batches

    try:
        for path in draw_batches(recipe, config_path, folder):
            print(f"training samples: {path}")
    except UserError as error:
        print(f"error: no pictures: {error}", file=sys.stderr)
        return False
    return True


def run_prepare(
    source: str,
    out: Path,
    overrides: Sequence[str],
    short_side: int,
    keyframe_interval: int,
    num_workers: int | None,
    folder: Path | None,
    shard_bytes: int | None,
) -> int:
    """Prepares a folder, a list or a source of a config; returns 0, or 2 if some files could not be prepared.

    Args:
        source: A folder, a list, or CONFIG:NAME.
        out: Where the prepared files go.
        overrides: Changes of the config.
        short_side: Short side in pixels.
        keyframe_interval: Frames from one keyframe of a video to the next.
        num_workers: Processes; None: one for each core that this process may use.
        folder: Where the paths of a list start; None: the folder of the list.
        shard_bytes: Bytes of a tar shard; None: no shards.
    """
    from omnisource.prepare import Settings, prepare, usable_cores
    from omnisource.preparing.plans import plan_folder, plan_list, plan_source

    config, colon, name = source.rpartition(":")
    is_config = bool(colon) and config.endswith(".py")
    if overrides and not is_config:
        raise UserError(f"{overrides[0]}: only a source of a config, CONFIG:NAME, has keys that can be overridden")
    if folder is not None and not Path(source).is_file():
        raise UserError(f"--folder {folder}: is for lists; {source} is none")
    if is_config:
        plan = plan_source(load_recipe(config, overrides), name, config)
    elif Path(source).is_dir():
        plan = plan_folder(source)
    elif source.endswith(".py"):
        raise UserError(f"{source}: name a source of this config, as {source}:NAME")
    else:
        plan = plan_list(source, None if folder is None else str(folder))
    settings = Settings(short_side, keyframe_interval)
    preparation = prepare(plan, out, settings, num_workers or usable_cores(), shard_bytes)
    print(preparation)
    return 2 if preparation.failures else 0


def run_lists_kinetics(csv: Path, videos: Path, out: Path, classes: Path | None, *, overwrite: bool) -> int:
    """Writes the list of a Kinetics CSV file; returns 0."""
    from omnisource.lists import make_kinetics_list

    out_classes = None if classes is None else str(classes)
    with counted_progress("looking for clips") as progress:
        report = make_kinetics_list(
            str(csv), str(videos), str(out), out_classes, overwrite=overwrite, progress=progress
        )
    print(report)
    return 0


def run_lists_folders(
    folder: Path,
    media: Media,
    out: Path,
    classes: Path | None,
    validation_share: float,
    validation_out: Path | None,
    seed: int,
    group_pattern: str | None,
    *,
    overwrite: bool,
) -> int:
    """Writes the list of a folder with one folder a class; returns 0."""
    from omnisource.lists import make_folder_lists

    with counted_progress("reading folders") as progress:
        report = make_folder_lists(
            str(folder),
            str(out),
            media,
            None if classes is None else str(classes),
            validation_path=None if validation_out is None else str(validation_out),
            validation_share=validation_share,
            seed=seed,
            group_pattern=group_pattern,
            overwrite=overwrite,
            progress=progress,
        )
    print(report)
    return 0
