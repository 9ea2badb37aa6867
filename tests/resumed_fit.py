"""A fit that is stopped by a signal between two checkpoints and resumed, beside the same fit without a break.

Run as a program, it prints how they differ and what of the backbone moved:

    KERAS_BACKEND=jax python tests/resumed_fit.py ROWS PRESET FOLDER TRANSFER
"""

import json
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import numpy as np

STOP_AT = 4


def compared(rows, preset, folder, transfer, **more):
    """The steps of both, the weights in which they differ, those that are as pretrained, and those that are not."""
    import keras_hub

    import kft
    from kft.errors import Interrupted
    from kft.training import checkpoints

    asked = {"preset": preset, "label": "topic", "transfer": transfer, "checkpoint_every": 2, "validation": 0.2}
    asked |= {"batch_size": 8, "epochs": 2, "precision": "float32", "quiet": True, "learning_rate": 5e-3}
    asked |= more
    whole = kft.fit(rows, out=str(folder / "whole"), **asked)
    save = checkpoints.save

    def save_and_signal(path, network, optimizer, position, history):
        if position.step == STOP_AT:
            os.kill(os.getpid(), signal.SIGTERM)
        return save(path, network, optimizer, position, history)

    try:
        with mock.patch.object(checkpoints, "save", save_and_signal):
            kft.fit(rows, out=str(folder / "stopped"), **asked)
        stopped_at = None
    except Interrupted as error:
        stopped_at = str(error)
    resumed = kft.resume(folder / "stopped", train=rows, quiet=True)
    histories = [(run.path / "history.jsonl").read_text() for run in (whole, resumed)]
    pairs = zip(whole.model.weights, resumed.model.weights, strict=True)
    pretrained = keras_hub.models.Backbone.from_preset(preset).weights
    own = [weight for weight in resumed.model.backbone.weights if "/lora/" not in weight.path]
    moved = [
        weight.path
        for weight, before in zip(own, pretrained, strict=True)
        if not np.array_equal(np.array(weight), np.array(before))
    ]
    return {
        "stopped": stopped_at,
        "same_history": histories[0] == histories[1],
        "differ": [one.path for one, other in pairs if not np.array_equal(np.array(one), np.array(other))],
        "moved": moved,
        "trained": resumed.manifest["forecast"]["trained"],
    }


if __name__ == "__main__":
    path, preset, folder, transfer = sys.argv[1:]
    print(json.dumps(compared(json.loads(Path(path).read_text()), preset, Path(folder), transfer)))
