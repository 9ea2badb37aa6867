"""kft: rows of text in; a fine-tuned KerasHub model out that answers from Python, a shell and TensorFlow Serving.

The names below load on first use: `import kft` brings in neither TensorFlow nor Keras and leaves KERAS_BACKEND alone.
"""

from __future__ import annotations

import gc
import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kft.calls import check, fit, plan
    from kft.recipe import Recipe
    from kft.run import Run, load
    from kft.workflow import resume
    from tuning.study import tune

__version__ = "0.1.0"
__all__ = ["Recipe", "Run", "check", "fit", "load", "plan", "resume", "tune"]

_HOME = {
    "Recipe": "kft.recipe",
    "Run": "kft.run",
    "load": "kft.run",
    "check": "kft.calls",
    "fit": "kft.calls",
    "plan": "kft.calls",
    "resume": "kft.workflow",
    "tune": "tuning.study",
}

# TensorFlow reads this when it is loaded. Left alone, it multiplies with Eigen on CPUs that have no AVX-512.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kft' has no attribute {name!r}")
    return getattr(loaded(_HOME[name]), name)


def loaded(module: str) -> Any:
    """A module of kft that brings in others for seconds.

    What is loaded stays: to look through it for garbage again and again would take a second and more.
    """
    is_on = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if is_on:
            gc.enable()


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
