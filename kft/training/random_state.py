"""The random state of a backend that is in no variable: torch's dropout draws from one of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import keras
import numpy as np

PREFIX = "random/"
"""What the names of its arrays begin with in a checkpoint."""


def arrays() -> dict[str, np.ndarray]:
    """The state of each of torch's generators by name; nothing with another backend."""
    if keras.config.backend() != "torch":
        return {}
    import torch

    of_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    states = {"cpu": torch.get_rng_state(), **{f"cuda{number}": state for number, state in enumerate(of_devices)}}
    return {f"{PREFIX}{name}": state.numpy() for name, state in states.items()}


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Nothing is drawn in here, as seen from after it: for work that a resumed fit may find done."""
    before = arrays()
    yield
    restore(before)


def restore(found: Mapping[str, np.ndarray]) -> None:
    """Lets torch draw on from such a state, so far as its devices are there; does nothing with another backend."""
    if keras.config.backend() != "torch":
        return
    import torch

    for name, state in found.items():
        kind = name.removeprefix(PREFIX)
        if kind == "cpu":
            torch.set_rng_state(torch.from_numpy(state))
        elif torch.cuda.is_available() and int(kind.removeprefix("cuda")) < torch.cuda.device_count():
            torch.cuda.set_rng_state(torch.from_numpy(state), int(kind.removeprefix("cuda")))
