"""Owns which settings a search tries: every combination of the listed values, or random draws. No TensorFlow."""

import dataclasses
import itertools
import math
import random
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.recipes import TrainOptions, choose_recipe, overrides

PLACES = ("out", "cache", "tensorboard", "checkpoint_every", "resume", "overwrite")
# What is trained on and measured on, and where files go: with these changed, errors could not be compared.
SPLIT = ("val_fraction", "val_subjects", "test_fraction")
MACHINES = ("backend", "coordinator", "num_processes", "process_id", "deterministic")
NOT_TRIED = ("data", "val_data", *SPLIT, "align_labels", "points", "skip_bad_rows", "set", *MACHINES, *PLACES)
RANGE = re.compile(r"(?P<low>[-+.\de]+?)\.\.(?P<high>[-+.\de]+)", re.IGNORECASE)
LOG_RATIO = 10  # a range that reaches over this factor is drawn from evenly in the logarithm
DRAWS_PER_TRIAL = 100  # a draw that came before is drawn again, so often

Settings = Mapping[str, str]


@dataclass(frozen=True)
class Span:
    """Every value between two ends, for random draws.

    Attributes:
        low: The least value.
        high: The greatest.
        whole: Only whole numbers.
    """

    low: float
    high: float
    whole: bool

    def draw(self, chance: random.Random) -> str:
        """A value in words: evenly, or evenly in the logarithm where the ends differ by a factor of ten or more."""
        if self.low > 0 and self.high >= LOG_RATIO * self.low:
            value = math.exp(chance.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = chance.uniform(self.low, self.high)
        return self._in_words(value)

    def ends(self) -> tuple[str, str]:
        """The least and the greatest value in words."""
        return self._in_words(self.low), self._in_words(self.high)

    def _in_words(self, value: float) -> str:
        return str(round(value)) if self.whole else str(float(f"{value:.3g}"))


Values = tuple[str, ...] | Span


def read_grid(words: Sequence[str], base: TrainOptions) -> dict[str, Values]:
    """What ``--grid`` names: ``NAME=V1,V2,…`` or ``NAME=LOW..HIGH``, each checked.

    A name is an option of ``train`` (``learning_rate``), else a field of the recipe (``augmentation.scale``).

    Raises:
        KpdetectError: A name or value does not exist or fit, is named twice, or would change what is measured.
    """
    grid: dict[str, Values] = {}
    for word in words:
        name, text = overrides.split_word(word)
        if name in grid:
            raise KpdetectError(f"--grid {word}: '{name}' is there already; name its values together, with commas")
        _check_may_vary(name, base)
        grid[name] = values = _read_values(text)
        for value in values.ends() if isinstance(values, Span) else values:
            choose_recipe(with_settings(base, {name: value}))
    return grid


def plan(grid: Mapping[str, Values], number: int | None, seed: int) -> list[dict[str, str]]:
    """The settings to try, in order.

    Args:
        grid: Values by name.
        number: None tries every combination; else so many different ones drawn at random (Bergstra and Bengio,
            JMLR 13, 2012: better than a grid where few settings matter). A greater number begins with the same draws.
        seed: Of the draws.

    Raises:
        KpdetectError: A range is to be tried without random draws, or the number is not positive.
    """
    if number is None:
        spans = [name for name, values in grid.items() if isinstance(values, Span)]
        if spans:
            raise KpdetectError(f"--grid {spans[0]}: a range needs --random N; or list its values with commas")
        lists = [values for values in grid.values() if isinstance(values, tuple)]
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*lists)]
    if number < 1:
        raise KpdetectError(f"--random: expected 1 or more, received {number}")
    return list(_draw(grid, number, random.Random(seed)))


def with_settings(base: TrainOptions, settings: Settings) -> TrainOptions:
    """The options of a trial.

    Raises:
        KpdetectError: A value does not fit its option.
    """
    hints = typing.get_type_hints(TrainOptions)
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
    if name in NOT_TRIED:
        raise KpdetectError(
            f"--grid {name}: the trials' errors could not be compared; expected a setting of the training"
        )
    if name == "seed" and base.val_data is None:
        raise KpdetectError("--grid seed: it also draws which faces are held out; to try seeds, name --val-data")


def _read_values(text: str) -> Values:
    match = RANGE.fullmatch(text)
    if match is None:
        listed = tuple(dict.fromkeys(overrides.plain_text(part.strip()) for part in text.split(",") if part.strip()))
        if not listed:
            raise KpdetectError(f"--grid: expected values, received '{text}'")
        return listed
    try:
        low, high = float(match["low"]), float(match["high"])
    except ValueError:
        low = high = math.nan
    if not low < high:
        raise KpdetectError(f"--grid: expected a range LOW..HIGH of two numbers, received '{text}'")
    return Span(low, high, all(re.fullmatch(r"[-+]?\d+", match[end]) for end in ("low", "high")))


def _draw(grid: Mapping[str, Values], number: int, chance: random.Random) -> Iterator[dict[str, str]]:
    drawn: list[dict[str, str]] = []
    for _ in range(DRAWS_PER_TRIAL * number):
        settings = {
            name: values.draw(chance) if isinstance(values, Span) else chance.choice(values)
            for name, values in grid.items()
        }
        if settings not in drawn:
            drawn.append(settings)
            yield settings
        if len(drawn) == number:
            return
