"""Methods of layers replaced: for good, or while a network is called and in the calling thread alone."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_INSTALLING = threading.Lock()


class _Replacements(threading.local):
    """What replaces a method in this thread, the innermost last."""

    def __init__(self, owner: Any) -> None:
        self.owner_id = id(owner)
        self.stack: list[Callable[..., Any]] = []


@contextlib.contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
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


def replace_call(layer: Any, function: Callable[..., Any]) -> None:
    """Gives a layer another `call` for good, in this process: what is saved of the layer stays as it is.

    Args:
        layer: A Keras layer or model.
        function: Called with the layer first.
    """
    layer.call = functools.partial(function, layer)


def restore_call(layer: Any) -> None:
    """Undoes `replace_call`."""
    vars(layer).pop("call", None)


def calls_of(layers: Iterable[Any]) -> list[tuple[Any, Any]]:
    """The `call` that somebody gave each of these layers, None where nobody has, for `restore_calls`."""
    return [(layer, vars(layer).get("call")) for layer in layers]


def restore_calls(calls: Iterable[tuple[Any, Any]]) -> None:
    """Undoes what has replaced the `call` of layers since `calls_of`."""
    for layer, call in calls:
        restore_call(layer)
        if call is not None:
            layer.call = call


def has_own_call(layer: Any) -> bool:
    """Whether a layer's `call` is that of its class, rather than one that somebody gave this layer.

    An optimisation that computes a layer in its own way would drop what the other `call` does.
    """
    call = vars(layer).get("call")
    while getattr(call, "replacements", None) is not None:  # what `replaced` leaves behind calls the method before it
        call = call.__wrapped__
    return call is None or getattr(call, "__func__", None) is type(layer).call


def _switch(owner: Any, name: str) -> _Replacements:
    """Gives the owner, once and for good, a method that asks each thread what replaces it."""
    with _INSTALLING:
        own = getattr(owner, name)
        replacements = getattr(own, "replacements", None)
        # A method of the owner's class may have a switch of its own.
        if replacements is not None and replacements.owner_id == id(owner):
            return replacements
        replacements = _Replacements(owner)

        @functools.wraps(own)
        def switched(*args: Any, **kwargs: Any) -> Any:
            if not (stack := replacements.stack):
                return own(*args, **kwargs)
            function = stack.pop()
            try:
                return function(*args, **kwargs)
            finally:
                stack.append(function)

        switched.replacements = replacements  # type: ignore[attr-defined]
        setattr(owner, name, switched)
        return replacements
