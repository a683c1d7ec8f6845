"""Random and TPE search by Optuna: draws settings, and stops trials that fall behind. Imports no TensorFlow.

Optuna keeps the draws in a SQLite file in the folder of the search, which ``optuna-dashboard`` shows too.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.log import enable_loggers
from kpdetect.training.tuning.grid import ValueRange, Values

STUDY_FILE = "study.db"
RANDOM, TPE = "random", "tpe"
REPEATS = 100  # draws of known settings in a row, after which no others are expected
STARTUP_TRIALS = 5  # completed before a trial is stopped early, and random ones before TPE models the errors

_RESUMES = "resumes"  # attribute of a trial that continues an interrupted one: the number of that one


@dataclass
class Draw:
    """Settings to try, and where the trial's errors are reported.

    Attributes:
        settings: Values by name, as text.
        trial: Optuna's trial.
        prunes: Whether the trial may be stopped early.
        pruned: Whether it was.
    """

    settings: dict[str, str]
    trial: Any
    prunes: bool = False
    pruned: bool = False

    def report(self, epoch: int, error: float) -> bool:
        """Reports the validation error after an epoch, and returns whether the trial should stop.

        Args:
            epoch: The epoch, from 0.
            error: The validation error.
        """
        self.trial.report(error, epoch)
        self.pruned = self.prunes and bool(self.trial.should_prune())
        return self.pruned


class Study:
    """The draws of a search, kept in `STUDY_FILE`.

    The n-th draw depends on the seed and on the errors of the draws before it, so that an interrupted search, and one
    with more trials, continue as one that was not interrupted.

    Args:
        folder: Folder of the search, which is created.
        grid: Values by name.
        search: ``random``, or ``tpe`` (Tree-structured Parzen Estimator, Bergstra et al., NeurIPS 2011): draws near the
            best settings so far.
        seed: Seed of the draws.
        warmup_epochs: Number of epochs before a trial may be stopped early; None stops none.

    Raises:
        MissingExtra: Optuna is not installed.
        KpdetectError: The file is not a study.

    Example:
        ``Study(Path("runs/rates"), {"learning_rate": ValueRange(1e-4, 1e-2, False)}, "tpe", seed=0)``
    """

    def __init__(
        self, folder: Path, grid: Mapping[str, Values], search: str, seed: int, warmup_epochs: int | None = None
    ) -> None:
        self._optuna = import_optuna()
        self.folder, self.grid, self.search, self.seed = folder, grid, search, seed
        self._prunes = warmup_epochs is not None
        folder.mkdir(parents=True, exist_ok=True)
        pruner = self._optuna.pruners.MedianPruner(STARTUP_TRIALS, warmup_epochs or 0)
        try:
            self._storage = self._optuna.storages.RDBStorage(f"sqlite:///{folder / STUDY_FILE}")
            self._study = self._optuna.create_study(
                storage=self._storage,
                study_name="kpdetect",
                pruner=pruner if self._prunes else self._optuna.pruners.NopPruner(),
                load_if_exists=True,
            )
        except Exception as error:  # SQLAlchemy's exceptions have no other common base class
            reason = " ".join(str(error).split())[:200]
            raise KpdetectError(f"{folder / STUDY_FILE}: expected a study of Optuna: {reason}") from error
        finally:
            enable_loggers()  # Optuna's migrations disable all loggers that exist
        running = self._optuna.trial.TrialState.RUNNING
        for trial in self._study.get_trials(states=(running,)):  # of a search that was interrupted
            self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
            self._study.enqueue_trial(trial.params, user_attrs={_RESUMES: trial.number})

    def next(self, number: int) -> Draw | None:
        """Draws settings that were not tried, or those of an interrupted trial.

        Args:
            number: Number of different settings of the whole search.

        Returns:
            The draw; None if all settings were tried.

        Raises:
            KpdetectError: The listed values of a name are others than before.
        """
        state = self._optuna.trial.TrialState
        trials = self._trials()
        known = {_key(self._words(trial.params)): trial for trial in trials if trial.state.is_finished()}
        if len(known) >= number:
            return None
        for _ in range(REPEATS):
            self._study.sampler = self._sampler(self.seed + len(self._drawn()))
            trial = self._study.ask()
            settings = self._suggest(trial)
            same = known.get(_key(settings))
            if same is None:
                return Draw(settings, trial, self._prunes)
            self._study.tell(trial, same.value if same.state == state.COMPLETE else None, same.state)
        return None

    def tell(self, draw: Draw, error: float | None) -> None:
        """Records the result of a draw.

        Args:
            draw: The draw.
            error: Its validation error; None if the training failed.
        """
        state = self._optuna.trial.TrialState
        if error is None or draw.pruned:
            self._study.tell(draw.trial, state=state.PRUNED if draw.pruned else state.FAIL)
        else:
            self._study.tell(draw.trial, error)

    def remove(self) -> None:
        """Removes the file, and the folder if nothing else is in it."""
        self._storage.remove_session()
        self._storage.engine.dispose()
        (self.folder / STUDY_FILE).unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _trials(self) -> list[Any]:
        """The trials without those that were interrupted."""
        trials = self._study.get_trials(deepcopy=False)
        resumed = {trial.user_attrs.get(_RESUMES) for trial in trials}
        return [trial for trial in trials if trial.number not in resumed]

    def _drawn(self) -> list[Any]:
        """The trials that were drawn; those that wait to be continued are not drawn again."""
        waiting = self._optuna.trial.TrialState.WAITING
        return [trial for trial in self._trials() if trial.state != waiting]

    def _sampler(self, seed: int) -> Any:
        samplers = self._optuna.samplers
        if self.search == RANDOM:
            return samplers.RandomSampler(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            return samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True)

    def _suggest(self, trial: Any) -> dict[str, str]:
        for name, values in self.grid.items():
            try:
                if not isinstance(values, ValueRange):
                    trial.suggest_categorical(name, values)
                elif values.whole:
                    trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
                else:
                    trial.suggest_float(name, values.low, values.high, log=values.log)
            except ValueError as error:
                raise KpdetectError(
                    f"--grid {name}: its values are others than in {self.folder / STUDY_FILE}; use the same list, or a "
                    "range, or another --out"
                ) from error
        return self._words(trial.params)

    def _words(self, params: Mapping[str, Any]) -> dict[str, str]:
        """The values of Optuna as text; numbers of ranges have three digits."""
        words = {}
        for name, values in self.grid.items():
            if name in params:
                words[name] = values.text(params[name]) if isinstance(values, ValueRange) else str(params[name])
        return words


def import_optuna() -> Any:
    """Imports Optuna, whose messages about each trial are not shown.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingExtra("Optuna", "tune", "--random and --search tpe") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _key(settings: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(settings.items()))
