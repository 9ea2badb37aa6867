import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from kft import disk
from kft.errors import RunError
from kft.training import checkpoints, variables
from kft.training.accumulation import Windows
from kft.training.checkpoints import Position
from kft.training.optimizers import FusedAdamW

INPUTS = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
TARGETS = INPUTS.sum(axis=1)


def compiled():
    """A network with dropout, so that its random states matter."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    network = keras.Sequential([keras.Input((4,)), *layers])
    network.compile("adamw", "mse")
    network.optimizer.build(network.trainable_variables)
    return network


def trained(network, epochs):
    network.fit(INPUTS, TARGETS, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return network


def state(network):
    return [np.asarray(variable) for variable in [*network.variables, *network.optimizer.variables]]


def save(folder, network, position):
    history = folder.parent / "history.jsonl"
    history.write_text("{}\n")
    return checkpoints.save(folder, network, network.optimizer, position, history)


def write(folder, *steps):
    network = compiled()
    return [save(folder, network, Position(step=step)) for step in steps]


def test_restored_training_goes_on_bit_for_bit(tmp_path):
    unbroken = trained(compiled(), 2)
    position = Position(epoch=2, batch=1, step=9, best_step=4, best_value=0.5, stale_epochs=1, notes=("said",))
    path = save(tmp_path, unbroken, position)
    trained(unbroken, 2)

    keras.utils.set_random_seed(7)
    restored = trained(compiled(), 1)
    assert checkpoints.restore(path, restored, restored.optimizer) == position
    trained(restored, 2)
    for found, expected in zip(state(restored), state(unbroken), strict=True):
        np.testing.assert_array_equal(found, expected)
    random_states = [v for v in restored.variables if "seed_generator" in v.path]
    assert random_states and np.asarray(random_states[0])[1] > 0


def test_only_the_weights_come_back_for_the_best_epoch(tmp_path):
    best = trained(compiled(), 1)
    path = save(tmp_path, best, Position(step=4))
    weights = best.get_weights()
    trained(best, 1)
    iterations = int(best.optimizer.iterations)
    checkpoints.restore_weights(path, best)
    for found, expected in zip(best.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert int(best.optimizer.iterations) == iterations


def test_checkpoint_of_another_model_is_refused(tmp_path):
    (path,) = write(tmp_path, 1)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    other.compile("adamw", "mse")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(RunError, match="variable '.*' is .* there and .* in the model. Resume with the recipe"):
        checkpoints.restore(path, other, other.optimizer)


def dense(*sizes, inputs=4):
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((inputs,)), *[keras.layers.Dense(size, use_bias=False) for size in sizes]])
    network.compile("adamw", "mse")
    network.optimizer.build(network.trainable_variables)
    return network


def test_an_array_of_the_same_size_but_another_shape_or_kind_is_refused(tmp_path):
    path = save(tmp_path, dense(6, inputs=2), Position(step=1))
    other = dense(2, inputs=6)
    with pytest.raises(RunError, match=r"variable 'model/.*kernel' is float32 \(2, 6\) there and float32 \(6, 2\)"):
        checkpoints.restore(path, other, other.optimizer)
    with pytest.raises(RunError, match=r"\(2, 6\) there and float32 \(6, 2\)"):
        checkpoints.restore_weights(path, other)
    half = keras.Sequential([keras.Input((2,)), keras.layers.Dense(6, use_bias=False, dtype="float16")])
    with pytest.raises(RunError, match=r"is float32 \(2, 6\) there and float16 \(2, 6\) in the model"):
        checkpoints.restore_weights(path, half)


def test_names_are_the_same_whatever_a_process_has_built_before(tmp_path):
    networks = dense(4, 4), dense(4, 4)
    names, again = ([name for name, _ in variables.named(one, one.optimizer)] for one in networks)
    assert names == again and len(set(names)) == len(names)
    assert "model/sequential/dense/kernel" in names and "model/sequential/dense.1/kernel" in names
    assert "optimizer/sequential/dense.1/kernel/momentum" in names and "optimizer/iteration" in names


def forged(path, **fields):
    """A checkpoint whose position somebody has rewritten, sums included."""
    position = {**json.loads((path / checkpoints.POSITION).read_text()), **fields}
    (path / checkpoints.POSITION).write_text(json.dumps(position))
    sums = {name: disk.sha256(path / name) for name in (checkpoints.STATE, checkpoints.POSITION, checkpoints.HISTORY)}
    (path / checkpoints.SUMS).write_text(json.dumps(sums))
    return path


@pytest.mark.parametrize(
    "fields",
    [
        {"epoch": -1},
        {"epoch": "2"},
        {"epoch": 10**30},
        {"step": 9},
        {"step": None},
        {"batch": 9},
        {"batch": 2.5},
        {"best_step": 9},
        {"best_step": "../../x"},
        {"best_value": "high"},
        {"micro_batches": 0},
        {"train_s": -1.0},
        {"train_s": float("nan")},
        {"notes": None},
        {"notes": [1]},
        {"notes": "abc"},
        {"further": 1},
    ],
)
def test_a_forged_position_is_refused_and_the_checkpoint_passed_over(tmp_path, fields):
    older, newer = write(tmp_path, 4, 8)
    forged(newer, **fields)
    checkpoints.verify(newer)
    with pytest.raises(RunError, match="position.json: ") as refused:
        checkpoints.restore(newer, compiled(), None)
    assert str(refused.value).isprintable()
    assert checkpoints.newest_intact(tmp_path)[0] == older


def test_a_position_that_no_fit_of_these_batches_comes_to_is_refused(tmp_path):
    for epoch, batch, step in [(0, 0, 0), (1, 1, 4), (1, 3, 6), (2, 0, 6), (2, 2, 8), (3, 0, 8)]:
        checkpoints.refuse_other_plan(tmp_path, Position(epoch=epoch, batch=batch, step=step), 3, 8)
    for epoch, batch, step in [(1, 1, 5), (0, 4, 4), (9, 9, 9), (0, 10**9, 10**9), (2, 0, 0)]:
        with pytest.raises(RunError, match=f"position.json: found step {step} at batch {batch} of epoch {epoch}, but"):
            checkpoints.refuse_other_plan(tmp_path, Position(epoch=epoch, batch=batch, step=step), 3, 8)


def test_a_state_that_is_no_such_file_is_refused(tmp_path):
    (path,) = write(tmp_path, 1)
    (path / checkpoints.STATE).write_bytes(b"\xff" * 8 + b"{}")
    forged(path)
    with pytest.raises(RunError, match="state.safetensors: cannot be read"):
        checkpoints.restore(path, compiled(), None)


def flip(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("name", [checkpoints.STATE, checkpoints.POSITION, checkpoints.HISTORY, checkpoints.SUMS])
@pytest.mark.parametrize("damage", [flip, lambda content: content[:-9], None], ids=["flipped", "truncated", "missing"])
def test_every_damaged_file_is_told_by_name(name, damage, tmp_path):
    older, newer = write(tmp_path, 4, 8)
    if damage is None:
        (newer / name).unlink()
    else:
        (newer / name).write_bytes(damage((newer / name).read_bytes()))
    with pytest.raises(RunError) as refused:
        checkpoints.restore(newer, compiled(), None)
    assert str(newer / name) in str(refused.value)
    found, problems = checkpoints.newest_intact(tmp_path)
    assert found == older
    assert [str(newer / name) in problem for problem in problems] == [True]


def test_without_an_intact_checkpoint_there_is_none(tmp_path):
    assert checkpoints.newest_intact(tmp_path / "nowhere") == (None, [])
    (path,) = write(tmp_path, 1)
    (path / checkpoints.STATE).write_bytes(b"")
    found, problems = checkpoints.newest_intact(tmp_path)
    assert found is None
    assert len(problems) == 1


def test_same_step_can_be_written_again_and_others_dropped(tmp_path):
    write(tmp_path, 1, 2, 3, 3)
    (tmp_path / ".partial-0123456789abcdef").mkdir()
    checkpoints.keep_only(tmp_path, 1, best_step=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]
    checkpoints.verify(checkpoints.at(tmp_path, 3))


def test_damaged_checkpoints_newer_than_the_chosen_one_are_dropped(tmp_path):
    write(tmp_path, 1, 2, 3)
    for step in (2, 3):
        (checkpoints.at(tmp_path, step) / checkpoints.STATE).write_bytes(b"")
    chosen, problems = checkpoints.newest_intact(tmp_path)
    assert (chosen, len(problems)) == (checkpoints.at(tmp_path, 1), 2)
    checkpoints.forget_after(tmp_path, chosen)
    assert list(tmp_path.glob("step-*")) == [chosen]
    write(tmp_path, 2)
    checkpoints.keep_only(tmp_path, 1, best_step=None)
    assert checkpoints.newest_intact(tmp_path) == (checkpoints.at(tmp_path, 2), [])
    checkpoints.forget_after(tmp_path, None)
    assert not list(tmp_path.glob("step-*"))


FULL_DISK = """
import json, resource, signal, sys
from pathlib import Path
import keras
from kft.errors import TrainingError
from kft.training import checkpoints

network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)])
folder, history = Path(sys.argv[1]), Path(sys.argv[1]).parent / "history.jsonl"
history.write_text("")
checkpoints.save(folder, network, None, checkpoints.Position(step=1), history)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    checkpoints.save(folder, network, None, checkpoints.Position(step=2), history)
except TrainingError as error:
    print(json.dumps(str(error)))
"""


def test_full_disk_leaves_the_earlier_checkpoint(tmp_path):
    folder = tmp_path / "checkpoints"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, folder], capture_output=True, text=True, check=True)
    message = json.loads(done.stdout)
    assert "step-00000002: File too large. Earlier checkpoints are intact: make room" in message
    assert f"--resume {tmp_path}" in message
    assert [path.name for path in folder.iterdir()] == ["step-00000001"]
    checkpoints.verify(folder / "step-00000001")


def accumulating(pieces, batches=1):
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    network.compile(FusedAdamW(windows=Windows(100, 100, batches, pieces)), "mse")
    network.optimizer.build(network.trainable_variables)
    return network


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (2, 4)])
def test_state_moves_to_other_micro_batches(before, after, tmp_path):
    network = trained(accumulating(before), 1)
    path = save(tmp_path, network, Position(step=4 // before, micro_batches=before))
    other = accumulating(after)
    assert checkpoints.restore(path, other, other.optimizer, after).micro_batches == after
    assert int(other.optimizer._iterations) == 4 // before * after
    for found, expected in zip(other.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_sums_of_an_update_that_is_not_whole_stay_with_other_micro_batches(tmp_path):
    network = trained(accumulating(1, batches=100), 1)
    (kernel, bias) = (np.array(sums) for sums in network.optimizer._accumulated_gradients)
    assert kernel.any()
    path = save(tmp_path, network, Position(step=4))
    other = accumulating(2, batches=100)
    checkpoints.restore(path, other, other.optimizer, 2)
    assert int(other.optimizer._iterations) == 8
    for found, expected in zip(other.optimizer._accumulated_gradients, (kernel, bias), strict=True):
        np.testing.assert_array_equal(found, expected)
