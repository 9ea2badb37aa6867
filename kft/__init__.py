"""kft: rows of text in; a fine-tuned KerasHub model out that answers from Python, a shell and TensorFlow Serving.

The names below load on first use: `import kft` brings in neither TensorFlow nor Keras and leaves KERAS_BACKEND alone.
"""

from __future__ import annotations

import gc
import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kft.recipe import Recipe
    from kft.run import Run, load
    from kft.workflow import check, fit, plan, resume
    from tuning.study import tune

__version__ = "0.1.0"
__all__ = ["Recipe", "Run", "check", "fit", "load", "plan", "resume", "tune"]

_HOME = {
    "Recipe": "kft.recipe",
    "Run": "kft.run",
    "load": "kft.run",
    "check": "kft.workflow",
    "fit": "kft.workflow",
    "plan": "kft.workflow",
    "resume": "kft.workflow",
    "tune": "tuning.study",
}

# TensorFlow reads this when it is loaded. Left alone, it multiplies with Eigen on CPUs that have no AVX-512.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kft' has no attribute {name!r}")
    # What is loaded stays: to look through it for garbage again and again takes a second and more.
    is_on = gc.isenabled()
    gc.disable()
    try:
        module = importlib.import_module(_HOME[name])
    finally:
        if is_on:
            gc.enable()
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
