"""Checks of a training's options that need no TensorFlow, so that a wrong name is reported within a second."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.core.options import command_line
from kpdetect.core.references import split_reference
from kpdetect.data.sources import check_spec
from kpdetect.modelfile.registry import resolve
from kpdetect.recipes import Recipe, TrainOptions, choose_recipe

RUN_FILE = "run.json"
LOSSES = ("mse", "l1", "smooth_l1", "wing")
"""The names of `kpdetect.models.losses.LOSSES`, which cannot be imported without TensorFlow."""


def check_options(options: TrainOptions) -> Recipe:
    """Checks the names that the options contain: recipe, loss, data and models.

    Args:
        options: The options of ``kpdetect train``.

    Returns:
        The recipe that they name.

    Raises:
        KpdetectError: A recipe, field, loss or kind of data does not exist, or a file, folder or model is missing.

    Example:
        >>> check_options(TrainOptions("compact", data="synthetic:20")).name
        'compact'
    """
    recipe = choose_recipe(options)
    if recipe.loss not in LOSSES:
        raise unknown_name("loss", recipe.loss, LOSSES)
    if ":" in recipe.architecture:
        split_reference(recipe.architecture, "--architecture")
    for reference in options.callbacks:
        split_reference(reference, "--callbacks")
    for spec in (options.data or recipe.demo_data, options.val_data):
        if spec is not None:
            check_spec(spec)
    for model in (*recipe.distillation.models, *([recipe.start.init_from] if recipe.start.init_from else [])):
        resolve(model)
    return recipe


def check_folder(folder: Path, options: TrainOptions) -> None:
    """Checks that a run folder is new, or holds a run that may be resumed or replaced.

    Raises:
        KpdetectError: The folder holds another run or other files, ``--resume`` has no run, or settings of the run to
            resume were changed.
    """
    if options.resume and options.overwrite:
        raise KpdetectError("--resume continues a run and --overwrite removes it: use one of them")
    holds_run = (folder / RUN_FILE).exists()
    if options.resume and not holds_run:
        raise KpdetectError(f"{folder}: --resume found no run here; omit --resume to start one")
    if options.resume:
        _check_resumed_settings(folder, options)
        return
    if not folder.exists():
        return
    if not folder.is_dir():
        raise KpdetectError(f"{folder}: expected a folder, found a file; choose another --out")
    if holds_run and not options.overwrite:
        raise KpdetectError(f"{folder}: holds another run; --resume continues it, --overwrite removes it")
    if not holds_run and any(folder.iterdir()):
        raise KpdetectError(f"{folder}: holds files that are not a run; choose another --out")


def _check_resumed_settings(folder: Path, options: TrainOptions) -> None:
    """Compares recipe and seed with those in ``run.json``; runs of other versions are compared by their checkpoints."""
    try:
        written = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["options"]
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in written.items()}
        saved = TrainOptions(**values)  # type: ignore[arg-type]  # a wrong type is found below
        recipes = [choose_recipe(each).to_dict() for each in (saved, options)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    saved_recipe, recipe = recipes
    if changes := changed_settings({**saved_recipe, "seed": saved.seed}, {**recipe, "seed": options.seed}):
        command = command_line(dataclasses.replace(saved, out=str(folder), resume=True, overwrite=False), "train")
        raise KpdetectError(resume_error(str(folder), changes, f"continue with: {command}"))


def changed_settings(saved: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The settings that differ, each as ``name was 1, is 2``; nested names are joined by dots.

    >>> changed_settings({"epochs": 3, "start": {"weights": None}}, {"epochs": 5, "start": {"weights": None}})
    ['epochs was 3, is 5']

    Args:
        saved: Settings of the run, JSON-ready.
        wanted: Settings now.
        prefix: Prefix of the names.
    """
    changes = []
    for name, value in wanted.items():
        before, after = saved.get(name), json.loads(json.dumps(value))
        before = json.loads(json.dumps(before))
        if isinstance(before, dict) and isinstance(after, dict):
            changes += changed_settings(before, after, f"{prefix}{name}.")
        elif before != after:
            changes.append(f"{prefix}{name} was {before!r}, is {after!r}")
    return changes


def resume_error(place: str, changes: list[str], remedy: str) -> str:
    """The message for a resumed training or search with changed settings."""
    return f"{place}: --resume needs the same settings, but {'; '.join(changes)}; {remedy}; or --overwrite starts anew"
