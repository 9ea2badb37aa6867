"""A fit of which only some blocks train, stopped and resumed."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import pytest

SCRIPT = Path(__file__).parents[1] / "resumed_fit.py"


@pytest.mark.slow
@pytest.mark.parametrize("transfer", ["last:1+layer_decay:0.9", "lora:4"])
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_resumed_fit_of_a_part_is_the_same_to_the_bit(backend, transfer, message_rows, tiny_preset, tmp_path):
    asked = (tiny_preset, tmp_path, transfer)
    if backend == keras.config.backend():
        told = runpy.run_path(str(SCRIPT))["compared"](message_rows, *asked)
    else:
        (tmp_path / "rows.json").write_text(json.dumps(message_rows), encoding="utf-8")
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, str(SCRIPT), str(tmp_path / "rows.json"), *map(str, asked)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        told = json.loads(done.stdout.splitlines()[-1])
    assert "stopped at step" in told["stopped"]
    assert told["same_history"] and told["differ"] == []
    if transfer == "lora:4":
        assert told["moved"] == []
        return
    blocks = {path.split("/")[0] for path in told["moved"]}
    assert blocks == {"transformer_layer_1", "pooled_dense"}
    assert len(told["moved"]) >= 14  # the bias of the keys has no gradient


@pytest.mark.slow
@pytest.mark.parametrize("transfer", ["last:1", "features"])
def test_so_it_is_where_what_the_frozen_layers_give_is_computed_again(
    transfer, message_rows, tiny_preset, tmp_path, monkeypatch
):
    monkeypatch.setenv("KFT_CACHE", "none")
    told = runpy.run_path(str(SCRIPT))["compared"](message_rows, tiny_preset, tmp_path, transfer)
    assert "stopped at step" in told["stopped"]
    assert told["same_history"] and told["differ"] == []


@pytest.mark.slow
def test_so_it_is_with_a_pruned_vocabulary(message_rows, tiny_bert, tmp_path):
    preset = tiny_bert(tmp_path / "preset", *(f"word{number}" for number in range(50)))
    (tmp_path / "runs").mkdir()
    compared = runpy.run_path(str(SCRIPT))["compared"]
    told = compared(message_rows, preset, tmp_path / "runs", "full", prune_vocabulary=True)
    assert "stopped at step" in told["stopped"]
    assert told["same_history"] and told["differ"] == []
