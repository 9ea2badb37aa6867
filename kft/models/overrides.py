"""Methods of layers that others stand in for while a network is called, in the calling thread alone."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

_INSTALLING = threading.Lock()


class _StandIns(threading.local):
    """What stands in for a method in this thread, the innermost last."""

    def __init__(self, owner: Any) -> None:
        self.owner_id = id(owner)
        self.stack: list[Callable[..., Any]] = []


@contextlib.contextmanager
def standing_in(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """The owner with another method of this name for a while. Other threads see its own.

    Where the function calls the method, it gets the one that was there before.

    Args:
        owner: A layer, a class or a module.
        name: Of its method.
        function: Called as the owner's attribute is: with the instance first where the owner is a class.
    """
    stack = _switch(owner, name).stack
    stack.append(function)
    try:
        yield
    finally:
        stack.pop()


def _switch(owner: Any, name: str) -> _StandIns:
    """Gives the owner, once and for good, a method that asks each thread what stands in for it."""
    with _INSTALLING:
        own = getattr(owner, name)
        found = getattr(own, "stand_ins", None)
        # A method of the owner's class may have a switch of its own.
        if found is not None and found.owner_id == id(owner):
            return found
        stand_ins = _StandIns(owner)

        @functools.wraps(own)
        def switched(*args: Any, **kwargs: Any) -> Any:
            if not (stack := stand_ins.stack):
                return own(*args, **kwargs)
            function = stack.pop()
            try:
                return function(*args, **kwargs)
            finally:
                stack.append(function)

        switched.stand_ins = stand_ins  # type: ignore[attr-defined]
        setattr(owner, name, switched)
        return stand_ins
