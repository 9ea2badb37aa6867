"""Random numbers of a fit: drawn from its seed, and none of them from the state that the user's own draw from."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import keras
import numpy as np

from kft.accelerate.internals import GLOBAL_RANDOM_SEED, GLOBAL_SEED_GENERATOR, global_state

KERAS_STATE = (GLOBAL_RANDOM_SEED, GLOBAL_SEED_GENERATOR)


def set_seed(seed: int) -> None:
    """Seeds Python, NumPy, Keras and torch, as `keras.utils.set_random_seed` does, but not TensorFlow.

    Keras's random numbers on TensorFlow depend on its own seeds alone. TensorFlow's global seed could not be put back:
    to set it makes all of the user's random operations start again.
    """
    random.seed(seed)
    np.random.seed(seed)
    global_state.set_global_attribute(GLOBAL_RANDOM_SEED, seed)
    global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, None)
    if keras.config.backend() == "torch":
        import torch

        torch.manual_seed(seed)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python, NumPy, Keras and torch draw from this seed in here, and afterwards go on from where they were before."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    of_keras = {name: global_state.get_global_attribute(name) for name in KERAS_STATE}
    with _torch_state():
        set_seed(seed)
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
            for name, value in of_keras.items():
                global_state.set_global_attribute(name, value)


def _torch_state() -> contextlib.AbstractContextManager[None]:
    """Keeps the state of torch, whose dropout draws from it on that backend."""
    if keras.config.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.random.fork_rng(devices=range(torch.cuda.device_count()))
