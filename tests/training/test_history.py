import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kft.training import history

RECORDS = [
    {"kind": "step", "step": 1, "epoch": 0, "loss": 0.5, "learning_rate": 0.1},
    {"kind": "step", "step": 2, "epoch": 0, "loss": 0.25, "learning_rate": 0.2},
    {"kind": "epoch", "step": 2, "epoch": 0, "loss": 0.375, "val_accuracy": 0.75},
    {"kind": "step", "step": 3, "epoch": 1, "loss": 0.125, "learning_rate": 0.1},
    {"kind": "epoch", "step": 3, "epoch": 1, "loss": 0.125, "val_accuracy": 1.0},
]


@pytest.fixture
def written(tmp_path):
    made = history.History(tmp_path)
    for record in RECORDS:
        made.add(record)
    made.close()
    return made


def test_history_is_a_line_for_each_record_and_scalars_for_tensorboard(written, tmp_path):
    assert history.read(tmp_path) == RECORDS
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in board.Scalars("step/loss")] == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert [(e.step, e.value) for e in board.Scalars("epoch/val_accuracy")] == [(2, 0.75), (3, 1.0)]


def test_line_cut_off_in_writing_is_left_out(written, tmp_path):
    with written.path.open("a") as file:
        file.write(json.dumps(RECORDS[0])[:20])
    assert history.read(tmp_path) == RECORDS


def test_a_resumed_fit_takes_back_the_scalars_of_steps_it_repeats(written, tmp_path):
    again = history.History(tmp_path, step=2)
    again.add({**RECORDS[3], "loss": 0.0625})
    again.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in board.Scalars("step/loss")] == [(1, 0.5), (2, 0.25), (3, 0.0625)]
