import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

import kft
from kft.errors import RecipeError, RunError, TrainingError
from kft.recipe import Recipe
from tuning import hparams, trial
from tuning import space as spaces

# Keras Tuner 1.4.8 asks for the current thread by the name it had before Python 3.10.
pytestmark = pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning", "ignore:getName:DeprecationWarning")

# A length of 65 is one more than the tiny preset has positions: that trial fails, in its place in the grid.
GRID = {"max_length": [16, 65], "learning_rate": [1e-3, 3e-2]}
TOO_LONG = {
    "learning_rate": {"min": 1e-3, "max": 3e-2, "scale": "log"},
    "max_length": {"min": 65, "max": 96},
}
DEADLINE_S = 120


@pytest.fixture(scope="module")
def shared(tiny_preset):
    shares = {"validation": 0.2, "test": 0.2}
    return {"preset": tiny_preset, "epochs": 1, "precision": "float32", "quiet": True, **shares}


@pytest.fixture(scope="module")
def asked(shared, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("grid") / "study")
    return {"space": GRID, "search": "grid", "trials": 3, "objective": "log_loss", "out": out, **shared}


@pytest.fixture(scope="module")
def grid(meals, asked):
    return kft.tune(meals, **asked)


def records(out):
    return [json.loads(line) for line in (out / "trials.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was(meals, shared, tmp_path):
    asked = {"space": GRID, "search": "grid", "trials": 3, "objective": "log_loss", "out": str(tmp_path / "study")}
    asked |= shared
    script = f"import kft; kft.tune({meals!r}, **{asked!r})"
    root = str(Path(kft.__file__).parents[1])
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": root})
    out, deadline = Path(asked["out"]), time.monotonic() + DEADLINE_S
    while not (out / "trials" / "002" / "recipe.json").is_file():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
        assert process.returncode is None and time.monotonic() < deadline
    process.kill()
    process.wait()
    killed = (out / "trials.jsonl").read_text(encoding="utf-8")
    kft.tune(meals, **asked)
    after = (out / "trials.jsonl").read_text(encoding="utf-8")
    assert after.startswith(killed)
    assert len(killed.splitlines()) == 1 and len(after.splitlines()) == 3


def test_a_grid_is_tried_in_turn_and_a_failure_does_not_end_it(grid):
    tried = [(record["knobs"]["max_length"], record["knobs"]["learning_rate"]) for record in grid.trials]
    assert tried == [(16, 1e-3), (16, 3e-2), (65, 1e-3)]
    assert [record["status"] for record in grid.trials] == ["completed", "completed", "failed"]
    assert "65, but" in grid.trials[2]["message"] and "64 positions" in grid.trials[2]["message"]
    assert grid.trials == records(grid.path)


def test_the_smaller_loss_wins_and_only_its_weights_are_kept(grid):
    values = [record["value"] for record in grid.trials[:2]]
    assert grid.best_value == min(values) < max(values)
    winner, loser = ("001", "002") if values[0] < values[1] else ("002", "001")
    assert grid.best_run().path == grid.path / "trials" / winner
    assert grid.best_run().predict("the tea was good")[0]["label"] in ("good", "bad")
    left = {path.name for path in (grid.path / "trials" / loser).iterdir()}
    assert {"recipe.json", "metrics.json", "history.jsonl"} <= left and not {"preset", "checkpoints"} & left


def test_no_trial_holds_test_rows(grid):
    assert grid.best_run().recipe.test is None and "test" not in grid.best_run().metrics
    assert grid.best_run().manifest["forecast"]["rows"] == {"train": 48, "validation": 16}
    assert grid.best.test == 0.2


def test_the_best_recipe_gives_the_best_value_again(grid, meals, tmp_path):
    recipe = kft.Recipe.read(grid.path / "best.yaml")
    assert (recipe.train, recipe.task) == (meals, "classify")
    assert (recipe.text, recipe.label) == ("message", "category")
    recipe = kft.Recipe.of(recipe, out=str(tmp_path / "again"))
    again = kft.fit(**recipe.model_dump(), quiet=True)
    assert again.metrics["validation"]["log_loss"] == pytest.approx(grid.best_value, abs=1e-6)
    assert again.metrics["test"]["num_rows"] == 16


def test_tensorboard_has_the_knobs_and_metrics_of_each_trial(grid, tmp_path):
    hparams.write(tmp_path, grid.trials[0])
    groups = set()
    for out in (grid.path, tmp_path):
        board = EventAccumulator(str(out / "tensorboard" / "001"))
        board.Reload()
        found = board.PluginTagToContent("hparams")
        start = metadata.parse_session_start_info_plugin_data(found[metadata.SESSION_START_INFO_TAG])
        groups.add(start.group_name)
    assert len(groups) == 2  # or TensorBoard would show the mean of the first trials of two studies
    for record in grid.trials:
        board = EventAccumulator(str(grid.path / "tensorboard" / f"{record['trial']:03d}"))
        board.Reload()
        found = board.PluginTagToContent("hparams")
        start = metadata.parse_session_start_info_plugin_data(found[metadata.SESSION_START_INFO_TAG])
        assert {name: value.number_value for name, value in start.hparams.items()} == record["knobs"]
        end = metadata.parse_session_end_info_plugin_data(found[metadata.SESSION_END_INFO_TAG])
        assert (end.status == 1) == (record["status"] == "completed")
        for name, value in record["metrics"].items():
            assert board.Scalars(f"validation/{name}")[0].value == pytest.approx(value)


def test_a_finished_study_is_not_done_again(grid, meals, asked):
    before = (grid.path / "trials.jsonl").read_bytes()
    assert kft.tune(meals, **asked) == grid
    assert (grid.path / "trials.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": {"batch_size": [8, 16]}}, r"space\.batch_size was None, now \[8, 16\]"),
        ({"objective": "accuracy"}, "objective was 'log_loss', now 'accuracy'"),
        ({"validation": 0.1}, r"recipe\.validation was 0.2, now 0.1"),
    ],
)
def test_another_study_at_the_same_place_is_refused(grid, meals, asked, change, message):
    with pytest.raises(RunError, match=message):
        kft.tune(meals, **{**asked, **change})


@pytest.mark.slow
def test_a_random_search_draws_by_its_seed_and_can_be_extended(meals, shared, tmp_path):
    drawn = {}
    for name, seed, trials in [("one", 0, 1), ("other", 1, 1), ("one", 0, 3)]:
        with pytest.raises(TrainingError, match=f"all {trials} trials failed"):
            kft.tune(meals, space=TOO_LONG, trials=trials, seed=seed, out=tmp_path / name, **shared)
        drawn[name, trials] = [record["knobs"] for record in records(tmp_path / name)]
    assert drawn["one", 3][:1] == drawn["one", 1] != drawn["other", 1]
    assert len({knobs["learning_rate"] for knobs in drawn["one", 3]}) == 3
    assert all(1e-3 <= knobs["learning_rate"] <= 3e-2 for knobs in drawn["one", 3])
    assert all(65 <= knobs["max_length"] <= 96 for knobs in drawn["one", 3])


def test_a_random_search_finds_every_combination_of_a_small_space(tmp_path):
    searched = {"epochs": [1, 2, 3], "batch_size": [8, 16, 32], "transfer": ["full", "features"]}
    drawn = spaces.of(searched, Recipe())
    for seed in range(10):
        plan = trial.Plan(tmp_path, drawn, "random", 18, "accuracy", Recipe(seed=seed), None, None, quiet=True)
        oracle = trial._oracle(plan)
        oracle._set_project_dir(tmp_path, str(seed))
        found = [oracle.create_trial(f"worker {number}").hyperparameters.values for number in range(18)]
        assert len({json.dumps(values, sort_keys=True) for values in found}) == 18


def test_failed_trials_say_why_and_other_rows_are_refused(meals, shared, tmp_path):
    rows = Path(shutil.copy(meals, tmp_path))
    asked = {"space": {"max_length": [65]}, "out": tmp_path / "study", **shared}
    with pytest.raises(TrainingError, match="all 1 trials failed.* RecipeError: max_length: found 65"):
        kft.tune(rows, **asked)
    assert "Traceback" in (tmp_path / "study" / "trials" / "001" / "failure.txt").read_text(encoding="utf-8")
    rows.write_text(rows.read_text(encoding="utf-8").replace("tea", "soup"), encoding="utf-8")
    with pytest.raises(RunError, match=r"data\.train was"):
        kft.tune(rows, **asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"validation": 0}, "without validation rows trials cannot be compared"),
        ({"objective": "pearson"}, "'pearson', which classify does not have. Expected one of: loss, accuracy"),
        ({"objective": "acuracy"}, "Did you mean 'accuracy'?"),
        ({"search": "gird"}, "expected random or grid. Did you mean 'grid'?"),
        ({"trials": 0}, "trials: found 0"),
        ({"space": {"epochs": [1, 2]}}, "epochs is in the space and given as 1 too"),
    ],
)
def test_a_wrong_search_is_refused_before_anything_is_written(meals, shared, tmp_path, asked, message):
    with pytest.raises(RecipeError) as refused:
        kft.tune(meals, **{**shared, "space": TOO_LONG, "out": tmp_path / "study", **asked})
    assert message in str(refused.value)
    assert not (tmp_path / "study").exists()


def test_a_directory_with_something_else_is_left_alone(meals, shared, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="exists and holds no study"):
        kft.tune(meals, space=TOO_LONG, out=tmp_path, **shared)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
