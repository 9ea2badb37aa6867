"""JSON files that somebody has garbled or forged: anything but success or one line is a failure.

`KFT_FUZZ_EXAMPLES=500 pytest tests/test_fuzz_files.py` tries 500 of each kind.
"""

import json
import shutil

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from kft import disk, run
from kft import run_directory as places
from kft.errors import KftError, RecipeError, RunError
from kft.recipe import Recipe
from kft.training import checkpoints, history
from tuning import directory, ledger

fuzz = hypothesis.settings.get_profile("fuzz")

ODD = st.sampled_from(
    ["", "..", "../../x", "/dev/zero", "a\0b", "\ud800", "\x1b[31m", "x" * 10_000, "step-1", "NaN", "text", "classify"]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 2**31, 2**63, 10**30, 10**400, 1e308, -0.0, 1e-320]),
    st.floats(),
    st.text(max_size=20),
    ODD,
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | ODD, inner, max_size=4),
    max_leaves=12,
)
DEEP = st.sampled_from(["[" * 5000 + "]" * 5000, '{"a":' * 300 + "1" + "}" * 300, "1" * 5000, '{"a": 1e999}'])


@st.composite
def changed(draw, value):
    """A JSON value with something in it replaced, removed or added."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(JSON)
    places = list(value) if isinstance(value, dict) else list(range(len(value)))
    place = draw(st.sampled_from(places))
    value = dict(value) if isinstance(value, dict) else list(value)
    action = draw(st.sampled_from(["change", "change", "change", "remove", "add"]))
    if action == "remove":
        del value[place]
    elif action == "add" and isinstance(value, dict):
        value[draw(st.text(max_size=8) | ODD)] = draw(JSON)
    elif action == "add":
        value.insert(place, draw(JSON))
    else:
        value[place] = draw(changed(value[place]))
    return value


def texts(value):
    """Texts of a file in place of this value: changed JSON, or no JSON."""
    return st.one_of(
        changed(value).map(json.dumps), changed(value).map(json.dumps), DEEP, st.text(max_size=50), JSON.map(json.dumps)
    )


def encoded(text):
    return text.encode("utf-8", errors="surrogatepass")


def outcome(call, *kinds):
    """Calls, and checks that what is raised is one printable line of these kinds of error."""
    try:
        call()
    except KftError as error:
        assert str(error).isprintable() and 0 < len(str(error)) <= 2000
        assert isinstance(error, kinds), repr(error)


LABELS = {
    "answer": {"threshold": 0.5, "longest": 99},
    "classify": {"labels": ["a", "b"], "class_weights": [1.0, 2.0]},
    "embed": {"contrastive": "cosine", "pooling": "auto", "num_texts": 2, "low": 0.0, "high": 1.0},
    "generate": {"generation": {"max_new_tokens": 9, "decoding": "beam", "num_beams": 4, "top_k": 5, "top_p": 0.9,
                                "temperature": 1.0, "stop": ["x"], "seed": 0}, "template": 1},
    "joint": {"labels": ["a", "b"], "slots": {"labels": ["O", "B-x", "I-x"], "scheme": "bio", "missing": 0,
                                              "words": "words/2"}},
    "multilabel": {"labels": ["a", "b"], "thresholds": [0.5, 0.5]},
    "ordinal": {"labels": ["1", "2", "3"]},
    "pretrain": {"objective": "mlm", "mask_rate": 0.15},
    "regress": {"mean": 1.0, "deviation": 2.0},
    "tag": {"labels": ["O", "B-x", "I-x"], "scheme": "bio", "missing": 0},
}  # fmt: skip
TEXTS = {"answer": ["question", "context"], "generate": ["prompt", "response"]}
METRICS = {
    "validation": {"accuracy": 0.5, "confusion": [[1, 2], [3, 4]]},
    "train_s": 1.5,
    "examples_per_s": 10.0,
    "peak_memory_mb": 99.5,
}
RECIPE = Recipe.of(train="rows.csv", class_weights={"a": 1, "b": 2}, stop=["x"]).model_dump(mode="json")


def written(path, task="classify", **files):
    """The JSON files of a finished run, with the sums that belong to them, as whoever forges a run writes them."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    values = {places.RECIPE: RECIPE, places.LABELS: LABELS[task], places.METRICS: METRICS}
    contents = {name: json.dumps(value) for name, value in values.items()}
    for name, text in {**contents, **files}.items():
        (path / name).write_bytes(encoded(text))
    return {
        "kft": "0.1.0",
        "task": task,
        "columns": {"text": "text", "label": "label"},
        "texts": TEXTS.get(task, ["text"]),
        "preset": "minilm",
        "labels": LABELS[task],
        "notes": ["a note"],
        "finished": True,
        "sha256": {name: disk.sha256(path / name) for name in contents},
    }


def seal(path, content):
    """Writes a manifest with its own sum where it has room for one."""
    if isinstance(content, dict):
        try:
            own = disk.json_sha256(content)
        except ValueError:
            own = "0" * 64
        content = {**content, places.OWN_SUM: own}
    (path / places.MANIFEST).write_bytes(encoded(json.dumps(content)))


def opened(path):
    one = run.load(path)
    return one.recipe, one.labels, one.metrics, one.task, one.text_columns


@fuzz
@hypothesis.given(data=st.data())
def test_manifests(tmp_path, data):
    path, tasks = tmp_path / "run", st.sampled_from(sorted(LABELS))
    manifest = written(path, data.draw(tasks))
    if data.draw(st.integers(0, 3)):
        seal(path, data.draw(changed(manifest)))
    else:
        (path / places.MANIFEST).write_bytes(encoded(data.draw(texts(manifest))))
    outcome(lambda: opened(path), RunError)
    outcome(lambda: places.read_unfinished(path), RunError)


@fuzz
@hypothesis.given(data=st.data())
@pytest.mark.parametrize("task", sorted(LABELS))
def test_labels(tmp_path, task, data):
    path = tmp_path / "run"
    seal(path, written(path, task, **{places.LABELS: data.draw(texts(LABELS[task]))}))
    outcome(lambda: opened(path), RunError)


@fuzz
@hypothesis.given(text=texts(METRICS))
def test_metrics(tmp_path, text):
    path = tmp_path / "run"
    seal(path, written(path, **{places.METRICS: text}))
    outcome(lambda: opened(path), RunError)


@fuzz
@hypothesis.given(text=texts(RECIPE))
def test_the_recipe_of_a_run(tmp_path, text):
    path = tmp_path / "run"
    seal(path, written(path, **{places.RECIPE: text}))
    outcome(lambda: opened(path), RunError)


@fuzz
@hypothesis.given(
    text=texts(RECIPE)
    | changed(RECIPE).map(lambda value: yaml.safe_dump(value, allow_unicode=True))
    | st.text(st.sampled_from("abc:- \n\t#&*!%@`'\"[]{}<>|?,01.~\\")),
    ending=st.sampled_from(["yaml", "json"]),
)
def test_recipes(tmp_path, text, ending):
    path = tmp_path / f"recipe.{ending}"
    path.write_bytes(encoded(text))
    outcome(lambda: Recipe.read(path), RecipeError)


POSITION = {
    "epoch": 1, "batch": 2, "step": 8, "best_step": 4, "best_value": 0.5, "best_loss": None, "stale_epochs": 0,
    "micro_batches": 1, "train_s": 1.5, "num_rows": 64, "notes": ["a note"],
}  # fmt: skip


@fuzz
@hypothesis.given(data=st.data())
def test_positions_and_sums_of_checkpoints(tmp_path, data):
    path = checkpoints.at(tmp_path, 8)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    (path / checkpoints.STATE).write_bytes(data.draw(st.binary(max_size=50)))
    (path / checkpoints.HISTORY).write_text("")
    (path / checkpoints.POSITION).write_bytes(encoded(data.draw(texts(POSITION))))
    sums = {name: disk.sha256(path / name) for name in (checkpoints.STATE, checkpoints.POSITION, checkpoints.HISTORY)}
    is_forged = data.draw(st.integers(0, 3)) == 0
    (path / checkpoints.SUMS).write_bytes(encoded(data.draw(texts(sums)) if is_forged else json.dumps(sums)))
    found, _ = checkpoints.newest_intact(tmp_path)
    outcome(lambda: checkpoints.read_position(path), RunError)
    outcome(lambda: checkpoints.restore(path, _Nothing, None), RunError)
    if found:
        position = checkpoints.read_position(found)
        outcome(lambda: checkpoints.refuse_other_plan(found, position, 6, 18), RunError)


class _Nothing:
    """A model without variables."""

    compiled = False
    variables = ()


STEP = {"kind": "step", "epoch": 0, "step": 1, "loss": 0.5, "learning_rate": 1e-4}


@fuzz
@hypothesis.given(lines=st.lists(texts(STEP), max_size=3))
def test_histories(tmp_path, lines):
    (tmp_path / history.FILE).write_bytes(encoded("\n".join([*lines, ""])))
    outcome(lambda: history.read(tmp_path), RunError)


TRIAL = {
    "trial": 1, "status": "completed", "knobs": {"epochs": 2}, "objective": "accuracy", "value": 0.5,
    "metrics": {"accuracy": 0.5}, "seconds": 1.5, "path": "trials/001", "message": None,
}  # fmt: skip


@fuzz
@hypothesis.given(lines=st.lists(texts(TRIAL), max_size=3))
def test_trials(tmp_path, lines):
    (tmp_path / ledger.TRIALS).write_bytes(encoded("\n".join([*lines, ""])))
    outcome(lambda: ledger.ranked(ledger.read(tmp_path, ["epochs"], "accuracy")), RunError)


STUDY = {"kft": "0.1.0", "search": "grid", "space": {"epochs": [1, 2]}, "recipe": RECIPE, "data": {"train": "0" * 64}}


@fuzz
@hypothesis.given(text=texts(STUDY))
def test_studies(tmp_path, text):
    def claim():
        with directory.claim(tmp_path, STUDY):
            pass

    (tmp_path / directory.STUDY).write_bytes(encoded(text))
    outcome(claim, RunError)
