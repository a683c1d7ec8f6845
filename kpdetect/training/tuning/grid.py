"""The settings that a search tries: all combinations of listed values, or random draws. Imports no TensorFlow."""

import dataclasses
import itertools
import math
import random
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.recipes import Recipe, TrainOptions, choose_recipe, overrides

OUTPUT_OPTIONS = ("out", "cache", "tensorboard", "checkpoint_every", "resume", "overwrite")
SPLIT_OPTIONS = ("val_fraction", "val_subjects", "test_fraction")
MACHINE_OPTIONS = ("backend", "coordinator", "num_processes", "process_id", "deterministic")
FIXED_OPTIONS = (
    *("data", "val_data", *SPLIT_OPTIONS, "align_labels", "points", "skip_bad_rows", "set", "callbacks"),
    *MACHINE_OPTIONS,
    *OUTPUT_OPTIONS,
)
"""Options that a search cannot vary: the errors of trials with different data or splits are not comparable."""

RANGE = re.compile(r"(?P<low>[-+.\de]+?)\.\.(?P<high>[-+.\de]+)", re.IGNORECASE)
LOG_RATIO = 10  # ranges whose ends differ by this factor or more are sampled log-uniformly
DRAWS_PER_TRIAL = 100  # attempts to draw settings that were not drawn before

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

    def draw(self, generator: random.Random) -> str:
        """A random value as text, log-uniform if the ends differ by a factor of `LOG_RATIO` or more, else uniform."""
        if self.low > 0 and self.high >= LOG_RATIO * self.low:
            value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = generator.uniform(self.low, self.high)
        return self._text(value)

    def ends(self) -> tuple[str, str]:
        """The smallest and the largest value as text."""
        return self._text(self.low), self._text(self.high)

    def _text(self, value: float) -> str:
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


def plan(grid: Mapping[str, Values], number: int | None, seed: int) -> list[dict[str, str]]:
    """The settings to try, in order.

    Args:
        grid: Values by name.
        number: Number of different random draws, or None for all combinations. Random search is better than a grid if
            only few settings matter (Bergstra and Bengio, JMLR 13, 2012). A larger number starts with the same draws.
        seed: Random seed of the draws.

    Raises:
        KpdetectError: The grid has a range but `number` is None, or `number` is not positive.

    Example:
        >>> plan({"batch_size": ("16", "64")}, number=None, seed=0)
        [{'batch_size': '16'}, {'batch_size': '64'}]
    """
    if number is None:
        ranges = [name for name, values in grid.items() if isinstance(values, ValueRange)]
        if ranges:
            raise KpdetectError(
                f"--grid {ranges[0]}: a range needs --random N; else list its values, separated by commas"
            )
        lists = [values for values in grid.values() if isinstance(values, tuple)]
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*lists)]
    if number < 1:
        raise KpdetectError(f"--random: expected 1 or more, received {number}")
    return list(_draw(grid, number, random.Random(seed)))


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


def _draw(grid: Mapping[str, Values], number: int, generator: random.Random) -> Iterator[dict[str, str]]:
    drawn: list[dict[str, str]] = []
    for _ in range(DRAWS_PER_TRIAL * number):
        settings = {
            name: values.draw(generator) if isinstance(values, ValueRange) else generator.choice(values)
            for name, values in grid.items()
        }
        if settings not in drawn:
            drawn.append(settings)
            yield settings
        if len(drawn) == number:
            return
