"""Fits in stages, with what a kill at each checkpoint would leave, resumed in a process of its own.

Run as a program, it resumes copies of unfinished runs and prints, for each, whether it ends as the whole one:

    KERAS_BACKEND=jax python tests/staged_fits.py ROWS PRESET FOLDER TRANSFER

Without copies in FOLDER it makes them first.
"""

import json
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np


def whole_and_copies(rows, preset, folder, transfer):
    """A fit of three epochs of six steps, and a copy of its directory just before and after each checkpoint."""
    import kft
    from kft.training import checkpoints

    save = checkpoints.save

    def save_between_copies(path, network, optimizer, position, history):
        name = f"{position.step:02d}-{position.epoch}-{position.batch}"
        shutil.copytree(path.parent, folder / "copies" / f"{name}-before")
        made = save(path, network, optimizer, position, history)
        shutil.copytree(path.parent, folder / "copies" / f"{name}-saved")
        return made

    asked = {"preset": preset, "label": "topic", "transfer": transfer, "checkpoint_every": 4, "validation": 0.2}
    asked |= {"batch_size": 8, "epochs": 3, "precision": "float32", "quiet": True, "learning_rate": 5e-3}
    with mock.patch.object(checkpoints, "save", save_between_copies):
        return kft.fit(rows, out=str(folder / "whole"), **asked)


def resumed(rows, folder):
    """By the name of each copy, how the resumed fit differs from the whole one: nothing if all is well."""
    import kft

    whole = kft.load(folder / "whole")
    history = (whole.path / "history.jsonl").read_text()
    found = {}
    for copy in sorted((folder / "copies").iterdir()):
        run = kft.resume(copy, train=rows, quiet=True)
        pairs = zip(whole.model.weights, run.model.weights, strict=True)
        found[copy.name] = [one.path for one, other in pairs if not np.array_equal(np.array(one), np.array(other))]
        if (run.path / "history.jsonl").read_text() != history:
            found[copy.name].append("history")
    return found


if __name__ == "__main__":
    path, preset, folder, transfer = sys.argv[1:]
    rows, folder = json.loads(Path(path).read_text()), Path(folder)
    if not (folder / "copies").is_dir():
        whole_and_copies(rows, preset, folder, transfer)
    print(json.dumps(resumed(rows, folder)))
