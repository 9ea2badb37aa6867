"""Fits in stages: what moves in each, by which schedule, and that a killed one ends as one without a break."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest

import kft
from kft import job
from kft.accelerate import sparse_embeddings
from kft.errors import OutOfMemory, RecipeError
from kft.models import seeding
from kft.recipe import Recipe
from kft.training import history, loop, staging
from kft.transfer import application

SCRIPT = Path(__file__).parents[1] / "staged_fits.py"
STEPS = 6
"""Batches of an epoch of the rows here."""


def trained(rows, preset, folder, transfer, told=None, **knobs):
    """The job of a fit, the numbers of all variables before it and after each epoch, those of slots, and its outcome.

    Validation finds what it is `told`, if it is.
    """
    asked = {"preset": preset, "label": "topic", "validation": 0.2, "batch_size": 8, "precision": "float32"}
    recipe = Recipe.of(**{**asked, "transfer": transfer, "learning_rate": 5e-3, "epochs": 3, **knobs})
    folder.mkdir()
    with seeding.seeded(recipe.seed):
        ready = job.prepare(recipe, {"train": rows, "validation": 0.2, "test": None})
        seen, slots, left = [numbers(ready)], [], iter(told or ())

        def validate():
            sparse_embeddings.put_back(ready.trainer.network)
            seen.append(numbers(ready))
            optimizer = ready.trainer.learner.optimizer
            slots.append((len(optimizer._momentums), len(ready.trainer.network.trainable_variables)))
            return dict(zip(("val_loss", "val_accuracy"), next(left), strict=True)) if told else ready.validate()

        optimizers = []

        def enter(number, note):
            optimizers.append(weakref.ref(ready.trainer.learner.optimizer))
            made = ready.enter(number, note)
            assert [optimizer() for optimizer in optimizers] == [None] * number  # its moments have left memory
            return made

        ready.enter(0, lambda note: None)
        outcome = loop.train(
            ready.trainer,
            ready.sources,
            run_dir=folder,
            validate=validate,
            best_by="accuracy",
            quiet=True,
            begins=[stage.epoch for stage in ready.transfer.stages],
            enter=enter,
        )
        ready.complete()
    return ready, seen, slots, outcome


def model_of(family, kind):
    sizes = {"vocabulary_size": 20, "num_layers": 3, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
    sizes |= {"max_sequence_length": 12, **({"embedding_dim": 4} if family == "Albert" else {})}
    backbone = getattr(keras_hub.models, f"{family}Backbone")(**sizes)
    further = {"num_classes": 2} if kind == "TextClassifier" else {}
    return getattr(keras_hub.models, f"{family}{kind}")(backbone, preprocessor=None, compile=False, **further)


def numbers(ready):
    return {path: np.array(v) for b in ready.transfer.blocks for path, v in b.variables.items() if "seed" not in path}


def blocks_that_moved(ready, before, after):
    of_block = {path: block.name for block in ready.transfer.blocks for path in block.variables}
    return {of_block[path] for path in before if not np.array_equal(before[path], after[path])}


EVERYTHING = {"embeddings", "block_1", "block_2", "pooler", "head"}


@pytest.mark.parametrize(
    ("transfer", "moving"),
    [
        ("head_then_full", [{"head"}, EVERYTHING, EVERYTHING]),
        ("head_then_full:2+last:1", [{"head"}, {"head"}, {"block_2", "pooler", "head"}]),
        ("gradual+layer_decay:0.5", [{"head"}, {"block_2", "pooler", "head"}, EVERYTHING]),
    ],
)
def test_in_each_stage_just_that_moves_which_its_table_says(transfer, moving, message_rows, tiny_preset, tmp_path):
    ready, seen, slots, _ = trained(message_rows, tiny_preset, tmp_path / "run", transfer)
    for epoch, expected in enumerate(moving):
        stage = [one for one in ready.transfer.stages if one.epoch <= epoch][-1]
        before, after = seen[epoch], seen[epoch + 1]
        frozen = [path for path, rule in stage.rules.items() if rule.frozen]
        assert all(np.array_equal(before[path], after[path]) for path in frozen)
        assert blocks_that_moved(ready, before, after) == expected
        trained_paths = {path for path, rule in stage.rules.items() if not rule.frozen}
        still = {path for path in trained_paths if np.array_equal(before[path], after[path])}
        assert all("key" in path and "bias" in path for path in still)  # it has no gradient
        assert slots[epoch] == (len(trained_paths), len(trained_paths))
    begun = {block.name: block.from_stage for block in ready.forecast.blocks if block.trained}
    assert {name for name, stage in begun.items() if stage == 1} == moving[0]
    assert set(begun) == moving[-1]


TOP, MIDDLE = {"block_3", "pooler", "head"}, {"block_2", "block_3", "pooler", "head"}
WHOLE = {"embeddings", "block_1", *MIDDLE}


# KerasHub's T5 says of its attention that it does not support masking.
@pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")
@pytest.mark.parametrize(
    ("family", "kind", "transfer", "epochs", "expected"),
    [
        ("Bert", "TextClassifier", "gradual", 9, {0: {"head"}, 1: TOP, 2: MIDDLE, 3: WHOLE}),
        ("Bert", "TextClassifier", "gradual", 3, {0: {"head"}, 1: MIDDLE, 2: WHOLE}),
        ("Bert", "TextClassifier", "gradual", 2, {0: {"head"}, 1: WHOLE}),
        ("Bert", "TextClassifier", "gradual:0-0-1-3", 4, {0: {"head"}, 2: TOP, 3: WHOLE}),
        ("Bert", "TextClassifier", "gradual:1-2", 9, {0: TOP, 1: MIDDLE}),
        ("Bert", "TextClassifier", "gradual+last:2", 9, {0: {"head"}, 1: TOP, 2: MIDDLE}),
        (
            *("Bert", "TextClassifier", "gradual+lora:2", 9),
            {0: {"head"}, 1: TOP - {"pooler"}, 2: MIDDLE - {"pooler"}, 3: WHOLE - {"pooler", "embeddings"}},
        ),
        ("GPT2", "CausalLM", "gradual", 9, {0: {"block_3", "final_norm"}, 1: {"block_2", "block_3", "final_norm"},
                                            2: {"embeddings", "block_1", "block_2", "block_3", "final_norm"}}),
        ("Albert", "TextClassifier", "gradual", 9, {0: {"head"}, 1: {"embeddings", "shared_block_1", "pooler", "head"}},
        ),
        ("Bart", "Seq2SeqLM", "gradual:1-3", 9, {0: {"decoder_block_3"}, 1: {f"decoder_block_{n}" for n in (1, 2, 3)}}),
    ],
)  # fmt: skip
def test_blocks_begin_from_the_top(family, kind, transfer, epochs, expected):
    model = model_of(family, kind)
    settings = {**Recipe.of(transfer="lora:2").adapter_settings, "lora_targets": "query"}
    applied = application.apply(model, transfer, settings, epochs=epochs)
    found = {
        stage.epoch: {
            block.name
            for block in applied.blocks
            if any(not stage.rules[path].frozen for path in block.variables if path in stage.rules)
        }
        for stage in applied.stages
    }
    assert found == expected
    trainable = {path for block in applied.blocks for path, v in block.variables.items() if v.trainable}
    assert trainable == {path for path, rule in applied.stages[0].rules.items() if not rule.frozen}
    assert ("do not fit into" in " ".join(applied.notes)) == (transfer == "gradual" and epochs < 4)


def test_each_stage_has_a_schedule_of_its_own_and_records_say_which(message_rows, tiny_preset, tmp_path):
    knobs = {"warmup_steps": 2, "epochs": 4}
    ready, _, _, outcome = trained(message_rows, tiny_preset, tmp_path / "run", "head_then_full:2", **knobs)
    records = [record for record in history.read(tmp_path / "run") if record["kind"] == "step"]
    rates = [record["learning_rate"] for record in records]
    of_stage = [0.0025, 0.005, *(0.005 * (10 - update) / 10 for update in range(10))]
    assert rates == pytest.approx(2 * of_stage)
    assert [record["stage"] for record in records] == [0] * 12 + [1] * 12
    assert [record["step"] for record in records] == list(range(1, 25))
    assert [(stage.steps, stage.updates, stage.warmup_updates) for stage in ready.forecast.stages] == [
        ((1, 12), 12, 2),
        ((13, 24), 12, 2),
    ]
    assert ready.forecast.stages[0].trained == 51 and outcome.position.stage == 1


def test_what_the_frozen_layers_give_is_kept_for_each_stage(message_rows, tiny_preset, tmp_path):
    losses = []
    for name, is_asked in (("kept", True), ("computed", False)):
        knobs = {"cache_features": is_asked, "accelerate": False, "epochs": 4}
        ready, *_ = trained(message_rows, tiny_preset, tmp_path / name, "head_then_full:2+last:1", **knobs)
        assert (ready.stages.current.frontier.cache is not None) == is_asked
        losses.append([record["loss"] for record in history.read(tmp_path / name)])
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-5)
    assert len(losses[0]) == 4 * (STEPS + 1)


@pytest.mark.parametrize("best", [1, 4])
def test_the_weights_to_keep_are_the_best_of_all_stages(best, message_rows, tiny_preset, tmp_path):
    told = [(1.0, 0.9 if epoch == best else 0.5) for epoch in range(1, 5)]
    asked = ("head_then_full:2", told)
    ready, seen, _, outcome = trained(message_rows, tiny_preset, tmp_path / "run", *asked, epochs=4)
    assert outcome.position.best_step == best * STEPS
    kept = numbers(ready)
    assert all(np.array_equal(kept[path], seen[best][path]) for path in kept)
    assert any(not np.array_equal(kept[path], seen[-1 - (best == 4)][path]) for path in kept)


def test_early_stopping_counts_the_epochs_of_the_last_stage_alone(message_rows, tiny_preset, tmp_path):
    told = [(1.0, 0.9), *[(1.0, 0.5)] * 7]
    asked = ("head_then_full:3", told)
    knobs = {"epochs": 8, "early_stopping_patience": 2}
    _, seen, _, outcome = trained(message_rows, tiny_preset, tmp_path / "run", *asked, **knobs)
    assert outcome.position.epoch == 5 and outcome.position.best_step == STEPS


def test_the_head_alone_has_the_rate_of_a_frozen_backbone(message_rows, tiny_preset):
    asked = {"preset": tiny_preset, "label": "topic", "transfer": "head_then_full"}
    first, second = kft.plan(message_rows, learning_rate=1e-5, **asked).stages
    assert first.rates == pytest.approx((1e-3, 1e-3)) and second.rates == pytest.approx((1e-5, 1e-4))
    first, _ = kft.plan(message_rows, learning_rate=1e-5, head_learning_rate=3e-5, **asked).stages
    assert first.rates == pytest.approx((3e-5, 3e-5))


def test_a_fit_killed_in_a_stage_or_between_two_ends_as_one_without_a_break(message_rows, tiny_preset, tmp_path):
    runpy.run_path(str(SCRIPT))["whole_and_copies"](message_rows, tiny_preset, tmp_path, "gradual")
    killed = ("06-1-0-saved", "10-1-4-saved")  # before the second stage, and in it
    for copy in (tmp_path / "copies").iterdir():
        if copy.name not in killed:
            shutil.rmtree(copy)
    told = resumed(keras.config.backend(), message_rows, tiny_preset, tmp_path, "gradual")
    assert told == {name: [] for name in killed}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
@pytest.mark.parametrize("transfer", ["head_then_full:2+last:1", "gradual"])
def test_so_it_is_before_and_after_each_checkpoint_on_each_backend(
    backend, transfer, message_rows, tiny_preset, tmp_path
):
    if backend == "torch":
        pytest.importorskip("torch")
    told = resumed(backend, message_rows, tiny_preset, tmp_path, transfer)
    assert len(told) == 12 and {name: differs for name, differs in told.items() if differs} == {}


@pytest.mark.slow
def test_a_stage_that_needs_more_memory_goes_on_in_micro_batches(message_rows, quick, tmp_path, monkeypatch):
    enter, has_failed = staging.Stages.enter, []

    def enter_once_in_vain(stages, number, note):
        if number == 1 and not has_failed:
            has_failed.append(number)
            raise OutOfMemory("stage 2: its optimizer does not fit into memory")
        enter(stages, number, note)

    monkeypatch.setattr(staging.Stages, "enter", enter_once_in_vain)
    asked = {**quick, "label": "topic", "validation": 0.2, "transfer": "gradual", "epochs": 3}
    run = kft.fit(message_rows, out=str(tmp_path / "run"), **asked)
    records = [record for record in history.read(run.path) if record["kind"] == "step"]
    assert [record["step"] for record in records] == list(range(1, 19))
    assert [record["stage"] for record in records] == [0] * 6 + [1] * 6 + [2] * 6
    assert any("each batch of 8 is now computed in 2 micro-batches" in note for note in run.manifest["notes"])


def resumed(backend, rows, preset, folder, transfer):
    """By the name of each copy of an unfinished run, what is not as in the whole one; by a second process."""
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(SCRIPT), str(folder / "rows.json"), preset, str(folder), transfer]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (
            {"transfer": "head_then_full:3"},
            "head_then_full:3 trains the head alone for 3 epochs, and the fit has 3. Ask",
        ),
        (
            {"transfer": "gradual", "epochs": 1},
            "gradual:2 trains the same in all of the fit's 1 epoch. Ask for more epo",
        ),
        ({"transfer": "gradual:0-1-1-2"}, "gradual:0-1-1-2 is for 4 epochs or more, and the fit has 3"),
        ({"transfer": "gradual:0-3"}, "found gradual:0-3, expected at most 2, as so many blocks are to train"),
        (
            {"transfer": "gradual", "max_steps": 12},
            "stage 3 of 'gradual' begins after 12 steps, .* Ask for max_steps=13",
        ),
        ({"transfer": "gradual+layers:pooler"}, "gradual has no block to begin with"),
        ({"transfer": "head_then_full", "epochs": 1}, "for 1 epoch, and the fit has 1. Ask for epochs=2 or more"),
        (
            {"transfer": "head_then_full", "max_steps": 6},
            "stage 2 of 'head_then_full' begins after 6 steps, and max_steps ends the fit after 6. Ask for max_steps=7",
        ),
    ],
)
def test_stages_that_would_never_begin_are_refused(knobs, message, message_rows, tiny_preset):
    with pytest.raises(RecipeError, match=message):
        kft.plan(message_rows, preset=tiny_preset, label="topic", batch_size=8, validation=0.2, **knobs)


def test_a_model_without_a_head_has_none_to_begin_with():
    with pytest.raises(RecipeError, match="head_then_full: this model has no head that could be trained first"):
        application.apply(model_of("GPT2", "CausalLM"), "head_then_full")
    with pytest.raises(RecipeError, match="gradual:0-1: this model has no head that could train alone. Begin with 1"):
        application.apply(model_of("GPT2", "CausalLM"), "gradual:0-1")


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        ("features+head_then_full", "features trains no layer, so head_then_full would have no effect"),
        ("gradual+head_then_full", "expected one of gradual and head_then_full: a fit has one order of stages"),
        ("features+gradual", "features trains no layer, so gradual would have no effect"),
        ("gradual:2-1", "expected gradual:BLOCKS, with numbers of blocks by epoch that grow"),
        ("gradual:2-2", "expected gradual:BLOCKS"),
        ("gradual:2", "expected gradual:BLOCKS"),
        ("gradual:0--2", "expected gradual:BLOCKS"),
        ("head_then_full:0", "expected head_then_full:EPOCHS, with a number of epochs"),
        ("head_then_full+reinit_top:1", "what has new random weights has to train from the first epoch on"),
        ("head_then_full+head_then_full:2", "expected each strategy once"),
    ],
)
def test_the_recipe_refuses_what_has_no_meaning(transfer, message):
    with pytest.raises(RecipeError, match=f"^transfer: .*{message}"):
        Recipe.of(transfer=transfer)
