"""The settings that a search tries: lists and ranges of values by name, and all combinations. Imports no TensorFlow."""

import dataclasses
import itertools
import math
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.recipes import Recipe, TrainOptions, choose_recipe, overrides

OUTPUT_OPTIONS = ("out", "cache", "tensorboard", "checkpoint_every", "resume", "overwrite")
SPLIT_OPTIONS = ("val_fraction", "val_subjects", "test_fraction")
MACHINE_OPTIONS = ("backend", "workers", "address", "resources_per_worker", "max_failures", "deterministic")
FIXED_OPTIONS = (
    *("data", "val_data", *SPLIT_OPTIONS, "align_labels", "points", "skip_bad_rows", "set", "callbacks"),
    *MACHINE_OPTIONS,
    *OUTPUT_OPTIONS,
)
"""Options that a search cannot vary: the errors of trials with different data or splits are not comparable."""

RANGE = re.compile(r"(?P<low>[-+.\de]+?)\.\.(?P<high>[-+.\de]+)", re.IGNORECASE)
LOG_RATIO = 10  # ranges whose ends differ by this factor or more are sampled log-uniformly

Settings = Mapping[str, str]


@dataclass(frozen=True)
class ValueRange:
    """A range of numbers for random draws.

    Attributes:
        low: Smallest value.
        high: Largest value.
        whole: Draw whole numbers only.

    Example:
        >>> ValueRange(8, 64, whole=True).ends()
        ('8', '64')
    """

    low: float
    high: float
    whole: bool

    @property
    def log(self) -> bool:
        """Whether it is drawn log-uniformly: its ends differ by a factor of `LOG_RATIO` or more."""
        return self.low > 0 and self.high >= LOG_RATIO * self.low

    def ends(self) -> tuple[str, str]:
        """The smallest and the largest value as text."""
        return self.text(self.low), self.text(self.high)

    def text(self, value: float) -> str:
        """A value as text, with three digits or as a whole number."""
        return str(round(value)) if self.whole else str(float(f"{value:.3g}"))


Values = tuple[str, ...] | ValueRange


def read_grid(words: Sequence[str], base: TrainOptions) -> dict[str, Values]:
    """Parses and checks the words of ``--grid``: ``NAME=V1,V2,…`` or ``NAME=LOW..HIGH``.

    Args:
        words: The words. A name is an option of ``train`` (``learning_rate``) or a field of the recipe
            (``augmentation.scale``).
        base: Options that all trials share.

    Returns:
        The values by name.

    Raises:
        KpdetectError: A name or value does not exist, a name is given twice, or the option cannot vary.

    Example:
        >>> read_grid(["batch_size=16,64"], TrainOptions())
        {'batch_size': ('16', '64')}
    """
    grid: dict[str, Values] = {}
    for word in words:
        name, text = overrides.split_word(word)
        if name in grid:
            raise KpdetectError(
                f"--grid {word}: '{name}' is given twice; list all its values in one word, separated by commas"
            )
        _check_may_vary(name, base)
        grid[name] = values = _read_values(text)
        for value in values.ends() if isinstance(values, ValueRange) else values:
            choose_recipe(with_settings(base, {name: value}))
    return grid


def combinations(grid: Mapping[str, Values]) -> list[dict[str, str]]:
    """All combinations of the listed values, in order.

    Args:
        grid: Values by name.

    Raises:
        KpdetectError: The grid has a range.

    Example:
        >>> combinations({"batch_size": ("16", "64")})
        [{'batch_size': '16'}, {'batch_size': '64'}]
    """
    ranges = [name for name, values in grid.items() if isinstance(values, ValueRange)]
    if ranges:
        raise KpdetectError(
            f"--grid {ranges[0]}: a range needs --random N or --search tpe; else list its values, separated by commas"
        )
    lists = [values for values in grid.values() if isinstance(values, tuple)]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*lists)]


def with_settings(base: TrainOptions, settings: Settings) -> TrainOptions:
    """The training options of a trial.

    Args:
        base: Options that all trials share.
        settings: Values by name, as text.

    Raises:
        KpdetectError: A name is neither an option nor a field of a recipe, or a value has another type than its option,
            or is not among its choices.
    """
    hints = typing.get_type_hints(TrainOptions)
    fields = {field.name for field in dataclasses.fields(Recipe)}
    for name in settings:
        if name not in hints and name.partition(".")[0] not in fields:
            known = fields | hints.keys() - set(FIXED_OPTIONS)
            raise unknown_name("option of train or field of a recipe", name, known)
    options = {
        name: overrides.read_value(name, value, hints[name]) for name, value in settings.items() if name in hints
    }
    for declared in dataclasses.fields(TrainOptions):
        choices = declared.metadata["choices"]
        if choices and options.get(declared.name, choices[0]) not in choices:
            raise unknown_name(declared.name, options[declared.name], choices)
    words = tuple(f"{name}={value}" for name, value in settings.items() if name not in hints)
    return dataclasses.replace(base, set=(*base.set, *words), **options)


def _check_may_vary(name: str, base: TrainOptions) -> None:
    if name in FIXED_OPTIONS:
        raise KpdetectError(f"--grid {name}: cannot vary, because the errors of the trials would not be comparable")
    if name == "seed" and base.val_data is None:
        raise KpdetectError("--grid seed: the seed also selects the validation faces; to try seeds, give --val-data")


def _read_values(text: str) -> Values:
    match = RANGE.fullmatch(text)
    if match is None:
        listed = tuple(dict.fromkeys(overrides.plain_text(part.strip()) for part in text.split(",") if part.strip()))
        if not listed:
            raise KpdetectError(f"--grid: expected one or more values, received '{text}'")
        return listed
    try:
        low, high = float(match["low"]), float(match["high"])
    except ValueError:
        low = high = math.nan
    if not low < high:
        raise KpdetectError(f"--grid: expected a range LOW..HIGH of two numbers, received '{text}'")
    return ValueRange(low, high, all(re.fullmatch(r"[-+]?\d+", match[end]) for end in ("low", "high")))
