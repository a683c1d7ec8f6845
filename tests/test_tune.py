"""Hyperparameter search: settings, resuming, table and report; most tests use a fake training."""

import csv
import errno
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import lines_with, mentions

from kpdetect import tune, visualization
from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import read_image
from kpdetect.core.options import command_line, parse_options, run_command
from kpdetect.evaluation.results import ResultRow, write_rows
from kpdetect.recipes import RECIPES, TrainOptions, choose_recipe, overrides
from kpdetect.training import RESULT_FILE, RUN_FILE
from kpdetect.training.callbacks import EpochCheckpoint, StopWhenNotFinite
from kpdetect.training.tuning import attempts
from kpdetect.training.tuning.grid import ValueRange, combinations, read_grid, with_settings
from kpdetect.training.tuning.study import Study

BASE = TrainOptions(data="synthetic:24")
TINY = ["--data", "synthetic:24", "--epochs", "2", "--batch-size", "9", "--val-fraction", "0.25"]
# A small network.
SMALL = ["--set", "crop.size_hw=32:32", "architecture_options.widths=4:4:4:4", "architecture_options.blocks=1:1:1"]


def search(folder: Path, *more: str) -> int:
    return run_command(tune.main, [*TINY, "--out", str(folder), *more])


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


class FakeTraining:
    """A training that writes files without training; its error is the learning rate's distance from 0.01."""

    def __init__(self) -> None:
        self.trained: list[TrainOptions] = []
        self.epochs: list[int] = []
        self.before: Callable[[TrainOptions], None] = lambda options: None

    def __call__(self, options: TrainOptions, callbacks: Sequence[object] = ()) -> Path:
        recipe, folder = choose_recipe(options), Path(options.out or "")
        if options.data == "synthetic:0":
            raise KpdetectError("no such data")
        with atomic_file(folder / RUN_FILE) as temporary:
            temporary.write_text("{}")
        self.before(options)
        self.trained.append(options)
        error = abs(recipe.optimization.learning_rate - 0.01)
        model = SimpleNamespace(stop_training=False)
        for epoch in range(recipe.epochs):
            for callback in callbacks:
                callback.set_model(model)
                callback.on_epoch_end(epoch, {"val_nme": error})
            self.epochs.append(epoch)
            if model.stop_training:
                break
        (folder / "history.csv").write_text(f"epoch,val_nme\n1,{error}\n2,{error + 1}\n")
        numbers = (12, 0, 100 * error, None, 0.0, 0.0, 0.0, 0.0, 0.0)
        write_rows(
            folder / RESULT_FILE,
            [ResultRow("m", "f", "drawn", "val", "truth", *numbers, "inter-ocular", 1, 1, 1, 0, "2000-01-01")],
        )
        return folder


@pytest.fixture
def fake_training(monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    training = FakeTraining()
    monkeypatch.setattr(attempts, "train", training)
    return training


class TestWords:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("augmentation.rotation_deg", "20", 20.0),
            ("augmentation.flip", "false", False),
            ("optimization.schedule", "constant", "constant"),
            ("image_side", "250", 250),
            ("image_side", "none", None),
            ("crop.size_hw", "64:96", (64, 96)),
            ("architecture_options.blocks", "1:1:2", (1, 1, 2)),
            ("loss_unit", "2.5e1", 25.0),
        ],
    )
    def test_a_field_is_parsed_by_its_type(self, name: str, text: str, value: object) -> None:
        recipe = choose_recipe(TrainOptions(set=(f"{name}={text}",)))
        for part in name.split("."):
            recipe = recipe[part] if isinstance(recipe, dict) else getattr(recipe, part)
        assert recipe == value
        assert type(recipe) is type(value)

    def test_other_fields_are_unchanged(self) -> None:
        recipe = RECIPES["compact"]()
        changed = overrides.changed(recipe, "augmentation.scale", "0.5")
        assert changed != recipe
        assert overrides.changed(changed, "augmentation.scale", str(recipe.augmentation.scale)) == recipe

    @pytest.mark.parametrize(
        ("word", "parts"),
        [
            ("augmentation.rotaton_deg=3", ["rotaton_deg", "rotation_deg"]),
            ("augmentation.rotation_deg=far", ["rotation_deg", "float", "far"]),
            ("augmentation.rotation_deg=nan", ["rotation_deg", "float", "nan"]),
            ("augmentation.flip=2", ["flip", "bool", "2"]),
            ("augmentation=2", ["augmentation.rotation_deg"]),
            ("loss_unit.deep=2", ["loss_unit"]),
            ("architecture_options=2", ["architecture_options.NAME"]),
            ("crop.size_hw=big", ["size_hw", "big"]),
            ("crop.margin=-1", ["margin", "-1.0"]),
            ("loss_unit", ["loss_unit", "NAME=VALUE"]),
            ("epochs=3", ["--epochs"]),
        ],
    )
    def test_a_wrong_setting_is_an_error(self, word: str, parts: list[str]) -> None:
        with pytest.raises(KpdetectError, match=mentions(*parts)):
            choose_recipe(TrainOptions(set=(word,)))

    @given(
        st.builds(
            TrainOptions,
            data=st.sampled_from([None, "csv:a b.csv"]),
            epochs=st.none() | st.integers(1, 99),
            learning_rate=st.none() | st.floats(1e-9, 1.0),
            set=st.sampled_from([(), ("loss_unit=2",), ("augmentation.scale=0.3", "crop.size_hw=64:64")]),
            mixed_precision=st.booleans(),
        )
    )
    @settings(max_examples=40, deadline=None)
    def test_a_command_line_round_trips(self, options: TrainOptions) -> None:
        import shlex

        words = shlex.split(command_line(options, "train"))
        assert words[:2] == ["kpdetect", "train"]
        assert parse_options(TrainOptions, words[2:], "train", "") == options


class TestPlan:
    def test_a_grid_is_every_combination_once(self) -> None:
        grid = read_grid(["learning_rate=1e-3,0.001,3e-4", "loss=wing,l1", "augmentation.scale=0.1,0.2"], BASE)
        tried = combinations(grid)
        assert len(tried) == len({tuple(each.items()) for each in tried}) == 2 * 2 * 2
        assert tried[0] == {"learning_rate": "0.001", "loss": "wing", "augmentation.scale": "0.1"}

    def test_options_and_fields_reach_the_recipe(self) -> None:
        options = with_settings(BASE, {"batch_size": "7", "augmentation.scale": "0.5", "loss": "l1"})
        recipe = choose_recipe(options)
        assert (recipe.batch_size, recipe.augmentation.scale, recipe.loss) == (7, 0.5, "l1")

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            (["learning_rate=0.1..0.01"], ["LOW..HIGH"]),
            (["learning_rate=1e-4..1e-2"], ["learning_rate", "--random"]),
            (["learning-rate=1e-4", "learning_rate=1e-3"], ["--grid", "learning_rate=1e-3"]),
            (["lerning_rate=1e-4"], ["lerning_rate", "learning_rate"]),
            (["batch_size=16,many"], ["batch_size", "int", "many"]),
            (["batch_size=16,0"], ["batch-size", "1", "0"]),
            (["optimizer=adam,adams"], ["adams", "adam"]),
            (["recipe=compct"], ["compct", "compact"]),
            (["data=synthetic:5"], ["--grid", "data"]),
            (["test_fraction=0.1,0.2"], ["--grid", "test_fraction"]),
            (["callbacks=a:B,c:D"], ["--grid", "callbacks"]),
            (["align_labels=true,false"], ["--grid", "align_labels"]),
            (["seed=1,2"], ["--grid", "seed", "--val-data"]),
            (["batch_size"], ["batch_size", "NAME=VALUE"]),
            (["batch_size=,"], ["--grid"]),
        ],
    )
    def test_a_wrong_grid_is_an_error_before_training(
        self, words: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert search(tmp_path / "search", "--grid", *words) == 2
        assert lines_with(capsys.readouterr().err, *parts)
        assert not (tmp_path / "search").exists()

    def test_seeds_can_vary_with_separate_validation_faces(self) -> None:
        assert read_grid(["seed=1,2"], TrainOptions(data="synthetic:9", val_data="synthetic:5"))


def draws(folder: Path, words: list[str], number: int, search: str = "random", seed: int = 0) -> list[dict[str, str]]:
    """The settings that a study draws if every error is the distance of the learning rate from 0.01."""
    study, drawn = Study(folder, read_grid(words, BASE), search, seed), []
    while (draw := study.next(number)) is not None:
        drawn.append(draw.settings)
        study.tell(draw, abs(float(draw.settings.get("learning_rate", 0)) - 0.01))
    return drawn


class TestDraws:
    WORDS: ClassVar = ["learning_rate=1e-4..1e-2", "batch_size=8..64", "loss=wing,l1"]

    @pytest.mark.parametrize("search", ["random", "tpe"])
    def test_draws_differ_and_are_reproducible(self, tmp_path: Path, search: str) -> None:
        drawn = draws(tmp_path / "one", self.WORDS, 8, search)
        assert len({tuple(each.items()) for each in drawn}) == 8
        assert drawn == draws(tmp_path / "other", self.WORDS, 8, search)
        assert drawn != draws(tmp_path / "third", self.WORDS, 8, search, seed=1)
        for each in drawn:
            assert 1e-4 <= float(each["learning_rate"]) <= 1e-2
            assert 8 <= int(each["batch_size"]) <= 64
            assert each["loss"] in ("wing", "l1")

    @pytest.mark.parametrize("search", ["random", "tpe"])
    def test_a_search_with_more_trials_continues(self, tmp_path: Path, search: str) -> None:
        whole = draws(tmp_path / "whole", self.WORDS, 7, search)
        first = draws(tmp_path / "parts", self.WORDS, 4, search)
        assert [*first, *draws(tmp_path / "parts", self.WORDS, 7, search)] == whole

    def test_an_interrupted_trial_is_drawn_again_and_changes_nothing(self, tmp_path: Path) -> None:
        whole = draws(tmp_path / "whole", self.WORDS, 4)
        study = Study(tmp_path / "broken", read_grid(self.WORDS, BASE), "random", 0)
        study.tell(study.next(4), 1.0)
        assert study.next(4).settings == whole[1]  # and no result
        assert draws(tmp_path / "broken", self.WORDS, 4) == whole[1:]

    def test_draws_end_when_all_combinations_are_drawn(self, tmp_path: Path) -> None:
        assert len(draws(tmp_path, ["batch_size=8,16", "loss=wing,l1"], 50)) == 4

    def test_a_wide_range_is_sampled_log_uniformly(self, tmp_path: Path) -> None:
        drawn = draws(tmp_path, ["learning_rate=1e-4..1e-2", "augmentation.scale=0.1..0.3"], 60)
        assert np.median([float(each["learning_rate"]) for each in drawn]) == pytest.approx(1e-3, rel=0.6)
        assert np.mean([float(each["augmentation.scale"]) for each in drawn]) == pytest.approx(0.2, abs=0.03)
        assert [ValueRange(low, high, False).log for low, high in ((1, 9.9), (1, 10), (-1, 10))] == [False, True, False]

    def test_tpe_draws_near_the_best(self, tmp_path: Path) -> None:
        def distance(search: str) -> float:
            """Median distance of the later draws from the best learning rate, in powers of ten."""
            drawn = draws(tmp_path / search, ["learning_rate=1e-6..1"], 24, search)[8:]
            return float(np.median([abs(np.log10(float(each["learning_rate"])) + 2) for each in drawn]))

        assert distance("tpe") < 0.7 * distance("random")

    def test_changed_values_are_an_error(self, tmp_path: Path) -> None:
        draws(tmp_path, ["loss=wing,l1"], 1)
        with pytest.raises(KpdetectError, match=mentions("--grid loss", "study.db")):
            draws(tmp_path, ["loss=wing,mse"], 2)

    def test_another_file_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "study.db").write_text("not a database, but a text of some length" * 9)
        with pytest.raises(KpdetectError, match=mentions("study.db")):
            draws(tmp_path, ["loss=wing,l1"], 1)


class TestOptunaSearch:
    GRID: ClassVar = ["--grid", "learning_rate=1e-4..1e-1"]

    @pytest.mark.parametrize("how", [["--random", "5"], ["--search", "random", "--trials", "5"]])
    def test_random_draws_have_the_same_table(
        self, fake_training: FakeTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: list[str]
    ) -> None:
        assert search(tmp_path, *self.GRID, *how) == 0
        rows = table(tmp_path)
        assert [float(row["val_nme"]) for row in rows] == sorted(float(row["val_nme"]) for row in rows)
        assert {row["status"] for row in rows} == {"done"}
        assert sorted(row["trial"] for row in rows) == ["001", "002", "003", "004", "005"]
        assert lines_with(capsys.readouterr().out, f"learning_rate={rows[0]['learning_rate']}")
        assert read_image(str(tmp_path / "trials.png")).ndim == 3
        assert search(tmp_path, *self.GRID, "--random", "6", "--resume") == 0
        assert len(fake_training.trained) == 6

    def test_an_interrupted_search_continues_as_one_that_was_not(
        self, fake_training: FakeTraining, tmp_path: Path
    ) -> None:
        words = [*self.GRID, "--search", "tpe", "--trials", "7", "--no-prune"]
        assert search(tmp_path / "whole", *words) == 0
        whole = [options.learning_rate for options in fake_training.trained]
        fake_training.trained.clear()

        def interrupt(options: TrainOptions) -> None:
            if options.learning_rate == whole[5] and not options.resume:
                raise KeyboardInterrupt

        fake_training.before = interrupt
        assert search(tmp_path / "parts", *words) == 130
        assert search(tmp_path / "parts", *words, "--resume") == 0
        assert [options.learning_rate for options in fake_training.trained] == whole
        assert [options.resume for options in fake_training.trained] == [False] * 5 + [True, False]

    def test_trials_that_fall_behind_are_stopped(
        self, fake_training: FakeTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = [*self.GRID, "--search", "tpe", "--trials", "14", "--epochs", "8"]
        assert search(tmp_path, *words) == 0
        rows = table(tmp_path)
        pruned = [row for row in rows if row["status"] == "pruned"]
        assert pruned
        assert rows[0]["status"] == "done"
        assert [row["status"] for row in rows] == sorted(row["status"] for row in rows)  # done first
        assert len(fake_training.epochs) == 8 * (14 - len(pruned)) + 3 * len(pruned)  # a quarter of them is a warm-up
        assert search(tmp_path, *words, "--resume") == 0
        assert len(fake_training.trained) == 14
        assert search(tmp_path / "all", *words, "--no-prune") == 0
        assert {row["status"] for row in table(tmp_path / "all")} == {"done"}

    def test_a_failed_trial_is_told(self, fake_training: FakeTraining, tmp_path: Path) -> None:
        def fail(options: TrainOptions) -> None:
            if options.learning_rate > 0.005:
                raise KpdetectError("the loss is nan")

        fake_training.before = fail
        assert search(tmp_path, *self.GRID, "--search", "tpe", "--trials", "8") == 0
        statuses = [row["status"] for row in table(tmp_path)]
        assert set(statuses) == {"done", "failed"}
        assert len(statuses) == 8

    def test_wrong_data_leave_no_files(self, fake_training: FakeTraining, tmp_path: Path) -> None:
        folder = tmp_path / "search"
        assert search(folder, "--data", "synthetic:0", *self.GRID, "--random", "3") == 2
        assert not folder.exists()

    @pytest.mark.parametrize("words", [["--random", "0"], ["--search", "tpe", "--trials", "-1"]])
    def test_a_number_below_1_is_an_error(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], words) -> None:
        assert search(tmp_path / "search", *self.GRID, *words) == 2
        assert lines_with(capsys.readouterr().err, words[-2], words[-1])

    def test_without_optuna_the_error_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "optuna", None)
        assert search(tmp_path / "search", *self.GRID, "--random", "3") == 2
        assert lines_with(capsys.readouterr().err, "pip install", "tune")
        assert not (tmp_path / "search").exists()


class TestSearch:
    def test_table_and_report_name_the_best_trial(
        self, fake_training: FakeTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert search(tmp_path, "--grid", "learning_rate=0.1,0.02,0.05", "loss=l1,mse") == 0
        rows = table(tmp_path)
        assert [row["learning_rate"] for row in rows] == ["0.02", "0.02", "0.05", "0.05", "0.1", "0.1"]
        assert [float(row["val_nme"]) for row in rows] == sorted(float(row["val_nme"]) for row in rows)
        assert (rows[0]["epochs"], rows[0]["best_epoch"]) == ("2", "1")
        assert (rows[0]["normaliser"], rows[0]["split"], rows[0]["boxes"]) == ("inter-ocular", "val", "truth")
        output = capsys.readouterr().out
        assert lines_with(output, str(tmp_path / rows[0]["trial"]), "learning_rate=0.02", "loss=l1")
        assert "kpdetect train --data synthetic:24 --epochs 2 --batch-size 9 --learning-rate 0.02 --loss l1" in output
        assert read_image(str(tmp_path / "trials.png")).ndim == 3

    def test_finished_trials_are_not_repeated_and_the_grid_can_grow(
        self, fake_training: FakeTraining, tmp_path: Path
    ) -> None:
        assert search(tmp_path, "--grid", "learning_rate=0.1,0.02") == 0
        assert search(tmp_path, "--grid", "learning_rate=0.1,0.02", "--resume") == 0
        assert len(fake_training.trained) == 2
        assert search(tmp_path, "--grid", "learning_rate=1e-1,3e-2", "loss=l1", "--resume") == 0
        assert len(fake_training.trained) == 4
        assert search(tmp_path, "--grid", "learning_rate=0.03", "--resume") == 0
        assert sorted(row["trial"] for row in table(tmp_path)) == ["001", "002", "003", "004", "005"]
        assert [row["loss"] for row in table(tmp_path)].count("") == 3

    def test_an_interrupted_trial_is_resumed(self, fake_training: FakeTraining, tmp_path: Path) -> None:
        def interrupt(options: TrainOptions) -> None:
            if options.learning_rate == 0.02 and not options.resume:
                raise KeyboardInterrupt

        fake_training.before = interrupt
        assert search(tmp_path, "--grid", "learning_rate=0.1,0.02,0.05") == 130
        assert {row["trial"]: row["status"] for row in table(tmp_path)} == {"001": "done", "002": "unfinished"}
        assert search(tmp_path, "--grid", "learning_rate=0.1,0.02,0.05", "--resume") == 0
        assert [(options.learning_rate, options.resume) for options in fake_training.trained] == [
            (0.1, False),
            (0.02, True),
            (0.05, False),
        ]

    def test_a_failed_trial_is_recorded_and_the_search_continues(
        self, fake_training: FakeTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(options: TrainOptions) -> None:
            if options.learning_rate == 0.1:
                raise KpdetectError("the loss is nan")
            if options.learning_rate == 0.2:
                raise TypeError("no such network")

        fake_training.before = fail
        grid = ["--grid", "learning_rate=0.1,0.2,0.02"]
        assert search(tmp_path, *grid) == 0
        rows = {row["learning_rate"]: row for row in table(tmp_path)}
        assert [rows[rate]["status"] for rate in ("0.1", "0.2", "0.02")] == ["failed", "failed", "done"]
        assert rows["0.2"]["message"] == "TypeError: no such network"
        assert lines_with(capsys.readouterr().out, "the loss is nan")
        assert search(tmp_path, *grid, "--resume") == 0
        assert len(fake_training.trained) == 1
        assert search(tmp_path / "all", "--grid", "learning_rate=0.1") == 1

    def test_a_full_disk_ends_the_search_and_the_trial_can_be_resumed(
        self, fake_training: FakeTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fill(options: TrainOptions) -> None:
            if options.learning_rate == 0.02 and not options.resume:
                with atomic_file(Path(options.out or "") / "weights"):
                    raise OSError(errno.ENOSPC, "No space left on device")

        fake_training.before = fill
        grid = ["--grid", "learning_rate=0.1,0.02,0.05"]
        assert search(tmp_path, *grid) == 2
        assert "No space left" in capsys.readouterr().err.splitlines()[-1]
        assert {row["trial"]: row["status"] for row in table(tmp_path)} == {"001": "done", "002": "unfinished"}
        assert search(tmp_path, *grid, "--resume") == 0

    def test_wrong_data_end_the_search_without_files(
        self, fake_training: FakeTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "search"
        assert search(folder, "--data", "synthetic:0", "--grid", "learning_rate=0.1,0.2") == 2
        assert "no such data" in capsys.readouterr().err
        assert not folder.exists()

    def test_an_unknown_loss_is_an_error_before_the_first_trial(
        self, fake_training: FakeTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert search(tmp_path / "search", "--grid", "loss=l1,wng") == 2
        assert lines_with(capsys.readouterr().err, "wng", "wing")
        assert not fake_training.trained

    def test_an_existing_folder_needs_resume_or_overwrite(
        self, fake_training: FakeTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        grid = ["--grid", "learning_rate=0.1"]
        assert search(tmp_path / "search", *grid, "--resume") == 2
        assert lines_with(capsys.readouterr().err, str(tmp_path / "search"), "--resume")
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "letter.txt").write_text("dear")
        assert search(tmp_path / "mine", *grid, "--overwrite") == 2
        assert lines_with(capsys.readouterr().err, str(tmp_path / "mine"), "--out")
        assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
        assert search(tmp_path / "search", *grid) == 0
        assert search(tmp_path / "search", *grid) == 2
        assert lines_with(capsys.readouterr().err, str(tmp_path / "search"), "--resume", "--overwrite")
        assert search(tmp_path / "search", *grid, "--resume", "--seed", "9") == 2
        assert lines_with(capsys.readouterr().err, "seed", "0", "9")
        assert search(tmp_path / "search", *grid, "--overwrite") == 0
        assert len(fake_training.trained) == 2
        (tmp_path / "search" / "search.json").write_text(json.dumps({"trials": 3}))
        assert search(tmp_path / "search", *grid, "--resume") == 2
        assert lines_with(capsys.readouterr().err, str(tmp_path / "search" / "search.json"))

    @pytest.mark.slow
    def test_trials_are_normal_runs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        keep = EpochCheckpoint.on_epoch_end

        def interrupt(self: EpochCheckpoint, epoch: int, logs: dict[str, float] | None = None) -> None:
            keep(self, epoch, logs)
            raise KeyboardInterrupt

        words = [*SMALL, "--grid", "learning_rate=1e-3"]
        with monkeypatch.context() as patch:
            patch.setattr(EpochCheckpoint, "on_epoch_end", interrupt)
            assert search(tmp_path, *words) == 130
        assert search(tmp_path, *words, "--resume") == 0
        assert lines_with(capsys.readouterr().err, "epoch 1")
        (good,) = table(tmp_path)
        assert (good["learning_rate"], good["status"], good["epochs"]) == ("0.001", "done", "2")
        assert float(good["val_nme"]) > 0
        assert (tmp_path / good["trial"] / "spec.json").exists()


def test_a_non_finite_validation_error_stops_training() -> None:
    with pytest.raises(KpdetectError, match=mentions("NME", "nan", "epoch 1", "--learning-rate")):
        StopWhenNotFinite().on_epoch_end(0, {"loss": 1.0, "val_nme": float("nan")})


def test_the_picture_shows_all_kinds_of_values(tmp_path: Path) -> None:
    count = 12
    columns = {
        "rate": [f"{10 ** (-4 + 0.2 * number):.3g}" for number in range(count)],
        "loss": ["wing" if number % 2 else "l1" for number in range(count)],
        "blocks": ["default" if number % 3 else "1:2:4" for number in range(count)],
        "fixed": ["1"] * count,
    }
    errors = np.linspace(5, 60, count)
    errors[2] = np.nan
    for values in (errors, np.full(count, np.nan), np.full(count, 7.0)):
        visualization.setting_panels(columns, values, "% inter-ocular", tmp_path / "trials.png")
        assert read_image(str(tmp_path / "trials.png")).std() > 0
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "other.png"))):
        visualization.setting_panels(columns, errors[:-1], "", tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


def test_a_study_leaves_the_loggers_of_kpdetect_enabled(tmp_path: Path) -> None:
    """Optuna's migrations configure logging anew, which disables every logger that exists."""
    pytest.importorskip("optuna")
    logger = logging.getLogger("kpdetect.data.readers")
    Study(tmp_path, {}, "random", seed=0)
    assert not logger.disabled
