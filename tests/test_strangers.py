"""Runs and studies of strangers are data: nothing elsewhere is touched, and what is wrong with them is one line."""

import json
import os
import shutil

import pytest

import kft
from kft import disk, lock, run_directory, schemas, untrusted
from kft.errors import KftError, RunError
from kft.recipe import Recipe
from kft.run_directory import LABELS, MANIFEST, METRICS, OWN_SUM, RECIPE
from kft.task_names import TASKS
from kft.training import checkpoints
from tuning import directory, ledger

IDENTITY = {
    "kft": kft.__version__,
    "task": "classify",
    "columns": {"text": "text", "label": "label"},
    "texts": ["text"],
    "preset": "minilm",
    "labels": {"labels": ["a", "b"]},
}


def unfinished(path):
    """A fit that has begun, as a kill leaves it."""
    path.mkdir()
    run_directory.begin(path, Recipe.of(train="rows.csv"), IDENTITY)
    return path


def everything(path):
    return {str(one.relative_to(path)): one.is_file() and one.read_bytes() for one in path.rglob("*")}


# -- links and paths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["preset", "tensorboard", "checkpoints", "history.jsonl", lock.NAME, disk.PARTIAL])
@pytest.mark.parametrize("is_new", [False, True], ids=["resumed", "new"])
def test_a_link_in_a_run_leads_nowhere(tmp_path, name, is_new):
    mine = tmp_path / "mine"
    (mine / "step-00000001").mkdir(parents=True)
    (mine / "step-00000001" / "config.json").write_text("mine")
    before, path = everything(mine), tmp_path / "run"
    if is_new:
        path.mkdir()
        if name not in (lock.NAME, disk.PARTIAL):
            name = disk.PARTIAL + name
    else:
        unfinished(path)
    (path / name).symlink_to(mine / "step-00000001" / "config.json" if name == lock.NAME else mine)
    with pytest.raises(RunError, match=r"found a symbolic link|cannot be written: Too many levels"):
        if is_new:
            kft.fit([{"text": "a", "label": "b"}], out=str(path), quiet=True)
        else:
            kft.resume(path, quiet=True)
    assert everything(mine) == before


def test_a_link_in_a_study_leads_nowhere(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "text").write_text("mine")
    study = tmp_path / "study"
    with directory.claim(study, {"space": {}}):
        pass
    (study / "trials").symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match="trials: found a symbolic link"), directory.claim(study, {"space": {}}):
        pass
    assert everything(tmp_path / "mine") == {"text": b"mine"}


RECORD = {
    "trial": 1,
    "status": "completed",
    "knobs": {"epochs": 2},
    "objective": "accuracy",
    "value": 0.5,
    "metrics": {"accuracy": 0.5},
    "seconds": 1.5,
    "path": "trials/001",
    "message": None,
}


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../../mine"},
        {"path": "/tmp"},
        {"trial": 0},
        {"trial": "1"},
        {"knobs": {"epochs": 2, "out": "/tmp"}},
        {"knobs": []},
        {"objective": "log_loss"},
        {"value": None},
        {"value": "high"},
        {"status": "failed"},
        {"status": "done"},
        {"seconds": None},
        {"metrics": {"accuracy": "1"}},
        {"further": 1},
    ],
)
def test_a_forged_trial_is_refused_and_nothing_is_removed(tmp_path, change):
    for folder in ("mine/preset", "study/trials/001/preset"):
        (tmp_path / folder).mkdir(parents=True)
    record = {**RECORD, **change}
    (tmp_path / "study" / ledger.TRIALS).write_text(json.dumps(record) + "\n")
    with pytest.raises(RunError, match="trials.jsonl, line 1: "):
        ledger.read(tmp_path / "study", ["epochs"], "accuracy")
    ledger.drop_losing_weights(tmp_path / "study", [{**RECORD, "value": 0.7, "trial": 2}, RECORD | {"path": "../mine"}])
    assert (tmp_path / "mine" / "preset").is_dir() and not (tmp_path / "study/trials/001/preset").exists()


def test_trials_come_back_as_they_were_written(tmp_path):
    records = [RECORD, {**RECORD, "trial": 2, "path": "trials/002", "status": "failed", "value": None, "message": "x"}]
    ledger.write(tmp_path, records)
    assert ledger.read(tmp_path, ["epochs"], "accuracy") == records
    ledger.write(tmp_path, [RECORD, RECORD])
    with pytest.raises(RunError, match="line 2: trial: found 1"):
        ledger.read(tmp_path, ["epochs"], "accuracy")


# -- what a kill leaves --------------------------------------------------------------------------------------------


def test_a_fit_that_was_killed_before_it_began_is_begun_again_at_the_same_place(tmp_path):
    path = tmp_path / "run"
    for leave in ([lock.NAME], [lock.NAME, f"{disk.PARTIAL}01"], [lock.NAME, RECIPE]):
        path.mkdir()
        for name in leave:
            (path / name).write_text("{}")
        with pytest.raises(RunError, match=r"stopped before it began .* Start it again with --out"):
            kft.resume(path)
        with run_directory.claim(path):
            assert not (path / f"{disk.PARTIAL}01").exists()
            with pytest.raises(RunError, match="another fit is at work here"), run_directory.claim(path):
                pass
            run_directory.begin(path, Recipe.of(), IDENTITY)
        with run_directory.claim(path, resume=True):
            assert not run_directory.read_unfinished(path)["finished"]
        with pytest.raises(RunError, match="already holds a run"), run_directory.claim(path):
            pass
        shutil.rmtree(path)


def test_the_lock_of_a_finished_run_is_no_part_of_it(topic_run):
    assert (topic_run.path / lock.NAME).is_file()
    assert lock.NAME not in topic_run.manifest["sha256"]


# -- contents ------------------------------------------------------------------------------------------------------


def sealed(path, manifest):
    """Writes a manifest with the sums that belong to it, as whoever forges a run does."""
    content = {name: value for name, value in manifest.items() if name != OWN_SUM}
    (path / MANIFEST).write_text(json.dumps({**content, OWN_SUM: disk.json_sha256(content)}))


def forged(path, name, content):
    """A run with another file in it, and the sums that belong to it."""
    (path / name).write_bytes(content)
    manifest = json.loads((path / MANIFEST).read_text())
    sealed(path, {**manifest, "sha256": {**manifest["sha256"], name: disk.sha256(path / name)}})


@pytest.fixture
def copied(topic_run, tmp_path):
    return shutil.copytree(topic_run.path, tmp_path / "copy")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        (MANIFEST, os.mkfifo),
        (MANIFEST, lambda path: path.symlink_to("/dev/zero")),
        (MANIFEST, os.mkdir),
        (LABELS, os.mkfifo),
        (RECIPE, lambda path: path.symlink_to("/dev/zero")),
        ("preset/config.json", os.mkfifo),
    ],
)
def test_pipes_and_devices_neither_hang_nor_fill_the_memory(copied, name, make):
    (copied / name).unlink()
    make(copied / name)
    with pytest.raises(RunError):
        kft.load(copied)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"labels": ["a", "b"]}, "goes with a model of 2 outputs, and the one in preset has 3"),
        ({"labels": [f"{number}" for number in range(9)]}, "goes with a model of 9 outputs"),
        ({"labels": ["a", "b", 3]}, "labels"),
        ({"labels": {"a": 1}}, "labels"),
        ({"labels": ["a", "a", "b"]}, "expected different names"),
        ({"mean": 1, "deviation": 2}, "labels"),
        ([], "found []"),
    ],
)
def test_labels_that_do_not_go_with_the_model_are_refused(copied, labels, message):
    forged(copied, LABELS, json.dumps(labels).encode())
    with pytest.raises(RunError) as refused:
        kft.load(copied).predict("the lamp was lost")
    assert f"{LABELS}: " in str(refused.value) and message in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task", "no task", "'task': found 'no task'"),
        ("task", "regress", "labels.json: "),
        ("texts", ["label"], "texts: found 'label', expected some of: text"),
        ("texts", [], "'texts': found []"),
        ("columns", {"text": 3}, "found 3"),
        ("sha256", {}, "has no sha256 of recipe.json"),
        ("sha256", {"../recipe.json": "0" * 64}, "expected a name inside the run"),
        ("finished", "yes", "found 'yes'"),
    ],
)
def test_a_forged_manifest_is_refused(copied, field, value, message):
    sealed(copied, {**json.loads((copied / MANIFEST).read_text()), field: value})
    with pytest.raises(RunError) as refused:
        kft.load(copied).predict("the lamp was lost")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("preset/task.json", b"{}"),
        ("preset/task.json", b'{"module": "os", "class_name": "system", "config": {}, "registered_name": "x"}'),
        ("preset/config.json", b"[]"),
        ("preset/config.json", b"{}"),
        ("preset/model.weights.h5", b"no weights"),
    ],
)
def test_a_preset_that_is_none_is_refused(copied, name, content):
    forged(copied, name, content)
    with pytest.raises(KftError) as refused:
        kft.load(copied).predict("the lamp was lost")
    assert str(refused.value).isprintable() and refused.value.exit_code in (4, 5)


def test_every_task_has_a_schema_and_runs_of_it_pass(topic_run, urgency_run, pair_run):
    assert set(schemas.LABELS) == set(TASKS)
    for one in (topic_run, urgency_run, pair_run):
        opened = kft.load(one.path)
        assert opened.labels == json.loads((one.path / LABELS).read_text())
        assert opened.metrics == json.loads((one.path / METRICS).read_text())
        assert opened.recipe == one.recipe


# -- what a fit began with -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_other_weights_under_the_same_name_are_refused_by_name(tiny_bert, tmp_path, message_rows, quick, monkeypatch):
    preset, path = tiny_bert(tmp_path / "preset"), tmp_path / "run"
    asked = {**quick, "preset": preset, "text": "text", "label": "topic", "epochs": 1}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", lambda *arguments: (_ for _ in ()).throw(RunError("stopped")))
        with pytest.raises(RunError, match="stopped"):
            kft.fit(message_rows, out=str(path), **asked)
    manifest = json.loads((path / MANIFEST).read_text())
    assert manifest["base"]["model.weights.h5"] == disk.sha256(tmp_path / "preset" / "model.weights.h5")
    assert {"config.json", "tokenizer.json", "assets/tokenizer/vocabulary.txt"} <= set(manifest["base"])
    config = tmp_path / "preset" / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(RunError, match=r"base\.config\.json was '[0-9a-f]{64}', now '[0-9a-f]{64}'\. Resume with"):
        kft.resume(path, train=message_rows, quiet=True)
    del manifest["base"]
    sealed(path, manifest)
    with pytest.raises(RunError, match="says nothing of base, as the kft that began this fit did not record it"):
        kft.resume(path, train=message_rows, quiet=True)
    untrusted.check_folder(path, RunError)
