"""Methods of layers that others stand in for while a network is called."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def standing_in(layer: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """The layer with another method of this name for a while."""
    before = getattr(layer, name)
    setattr(layer, name, function)
    try:
        yield
    finally:
        setattr(layer, name, before)
