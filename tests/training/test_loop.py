"""Training by `loop.train` itself, of a small network and with made-up validation."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kft.data import store
from kft.data.streams import Stream
from kft.errors import TrainingError
from kft.losses.objective import Objective, Term, ones
from kft.losses.row_losses import crossentropy
from kft.recipe import Recipe
from kft.text.encoded import Encoded
from kft.training import checkpoints, devices, history, loop, trainers

ENCODER = SimpleNamespace(pad_values={"token_ids": 0}, mask_names=())
IDS = np.random.default_rng(0).integers(1, 20, (10, 4))
ROWS = store.in_memory(Encoded({"token_ids": IDS}, {"": np.full(10, 4)}, np.arange(10)), ENCODER)
TARGETS = {"label": (IDS[:, 0] > 9).astype(np.int32)}
STREAM = Stream(ROWS, TARGETS, {"label": np.ones(10, np.float32)}, {"label": ones(TARGETS, ROWS)})
OBJECTIVE = Objective((Term("label", lambda outputs, targets: crossentropy(outputs["logits"], targets["label"])),))


def trained(folder, validate=None, start=None, peak=1e-2, micro_batches=1, **knobs):
    """The outcome of training on ten rows in batches of two, and the network."""
    recipe = Recipe.of(**{"batch_size": 2, "warmup_steps": 0, "epochs": 1, **knobs})
    keras.utils.set_random_seed(0)
    tokens = keras.Input((None,), dtype="int32", name="token_ids")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 8)(tokens))
    network = keras.Model({"token_ids": tokens}, {"logits": keras.layers.Dense(2)(pooled)})
    trainer = trainers.prepare(
        network,
        OBJECTIVE,
        recipe,
        devices.choose("none", "float32"),
        peak=peak,
        batches_per_epoch=5,
        micro_batches=micro_batches,
    )
    settings = {"run_dir": folder, "validate": validate, "best_by": "accuracy", "start": start, "quiet": True}
    return loop.train(trainer, {"train": STREAM}, **settings), network


def scripted(*epochs):
    """Validation that finds these losses and accuracies, one after the other."""
    left = iter(epochs)
    return lambda: dict(zip(("val_loss", "val_accuracy"), next(left), strict=True))


@pytest.mark.parametrize(
    ("found", "best"),
    [
        ([(0.5, 0.8), (0.4, 0.8), (0.3, 0.7)], 2),
        ([(0.4, 0.8), (0.5, 0.8), (0.6, 0.8)], 1),
        ([(0.4, float("nan")), (0.5, 0.1), (0.6, float("inf"))], 2),
    ],
    ids=["less loss", "more loss", "no number"],
)
def test_equal_epochs_are_told_apart_by_their_loss_and_none_is_best_without_a_number(found, best, tmp_path):
    outcome, _ = trained(tmp_path, scripted(*found), epochs=3)
    assert outcome.position.best_step == 5 * best
    odd = [note for note in outcome.notes if "its weights are not kept as the best" in note]
    assert len(odd) == sum(not np.isfinite(accuracy) for _, accuracy in found)
    assert all(np.isfinite(value) for record in history.read(tmp_path) for k, value in record.items() if k != "kind")


def test_equal_epochs_do_not_make_training_go_on(tmp_path):
    found = [(0.5 - number / 100, 0.8) for number in range(9)]
    outcome, _ = trained(tmp_path, scripted(*found), epochs=9, early_stopping_patience=2)
    assert (outcome.position.epoch, outcome.position.best_step) == (3, 15)


def test_an_update_that_breaks_the_weights_ends_the_fit_though_it_is_the_last(tmp_path):
    with pytest.raises(TrainingError, match=r"step 1: \d of the trained variables have values that are not finite"):
        trained(tmp_path, peak=1e38, weight_decay=100, max_steps=1)
    assert not list((tmp_path / checkpoints.FOLDER).glob("*"))


def test_a_fit_resumed_within_an_update_goes_on_bit_for_bit(tmp_path):
    knobs = {"epochs": 2, "gradient_accumulation_steps": 3, "checkpoint_every": 1, "save_total_limit": 20}
    outcome, whole = trained(tmp_path, **knobs)
    steps = history.read(tmp_path)
    weights = [np.array(weight) for weight in whole.get_weights()]
    for step in (7, 4, 1):
        start = checkpoints.at(tmp_path / checkpoints.FOLDER, step)
        again, network = trained(tmp_path, start=start, **knobs)
        assert again.position.step == outcome.position.step == 10
        assert history.read(tmp_path) == steps
        for found, expected in zip(network.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_fit_resumed_within_an_update_goes_on_in_smaller_pieces(tmp_path):
    knobs = {"epochs": 2, "gradient_accumulation_steps": 3, "checkpoint_every": 1, "save_total_limit": 20}
    _, whole = trained(tmp_path, **knobs)
    losses = [record["loss"] for record in history.read(tmp_path)]
    start = checkpoints.at(tmp_path / checkpoints.FOLDER, 4)
    _, pieces = trained(tmp_path, start=start, micro_batches=2, **knobs)
    assert [record["loss"] for record in history.read(tmp_path)] == pytest.approx(losses, rel=1e-5)
    for found, expected in zip(pieces.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
