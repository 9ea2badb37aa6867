"""kft: rows of text in; a fine-tuned KerasHub model out that answers from Python, a shell and TensorFlow Serving.

The names below load on first use: `import kft` brings in neither TensorFlow nor Keras, and leaves the environment, the
garbage collector and random numbers alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kft.calls import check, fit, plan
    from kft.recipe import Recipe
    from kft.run import Run, load
    from kft.score_matrix import matrix
    from kft.workflow import resume
    from tuning.study import tune

__version__ = "0.1.0"
__all__ = ["Recipe", "Run", "check", "fit", "load", "matrix", "plan", "resume", "tune"]

_HOME = {
    "Recipe": "kft.recipe",
    "Run": "kft.run",
    "load": "kft.run",
    "check": "kft.calls",
    "fit": "kft.calls",
    "plan": "kft.calls",
    "matrix": "kft.score_matrix",
    "resume": "kft.workflow",
    "tune": "tuning.study",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kft' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
