"""What can go wrong, said once and clearly; the command line turns each kind into its exit code.

A message says what was found (file, row, column, value), what was expected and what to do.
"""

import difflib
import reprlib
from collections.abc import Iterable

MAX_MESSAGE = 2000
MAX_QUOTED = 200


class KftError(Exception):
    """Any refusal of kft. `exit_code` is what the command line exits with.

    Its message is one line that can be printed, whatever names and values of the user's files stand in it.
    """

    exit_code = 1

    def __init__(self, message: str = ""):
        super().__init__(cut(printable(str(message)), MAX_MESSAGE))


class RecipeError(KftError):
    """A knob with a wrong name or value."""

    exit_code = 2


class DataError(KftError):
    """Rows, columns or files that cannot be used as they are."""

    exit_code = 3


class PresetError(KftError):
    """A pretrained model that cannot be found, read or used for text."""

    exit_code = 4


class RunError(KftError):
    """A run directory that is missing, occupied, damaged or not writable."""

    exit_code = 5


class TrainingError(KftError):
    """Training that went wrong: a loss that is not finite, no memory, no disk."""

    exit_code = 6


class OutOfMemory(TrainingError):
    """A batch that the device has no memory for; the fit goes on with smaller micro-batches, if there are any."""


class Interrupted(KftError):
    """SIGINT or SIGTERM; the exit code is 128 plus the signal's number, as shells have it."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + signal_number


class ExportError(KftError):
    """An export that failed one of its gates."""

    exit_code = 7


class DeviceError(KftError):
    """Devices or a distribution that this machine or backend does not have."""

    exit_code = 8


class ServeError(KftError):
    """A server, its config or its answer that is not as TF Serving defines it."""

    exit_code = 9


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """The sentence that offers the nearest known name, or an empty string.

    >>> did_you_mean("lable", ["label", "text"])
    " Did you mean 'label'?"
    >>> did_you_mean("zzz", ["label"])
    ''
    """
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def printable(text: str) -> str:
    """A text in one line without control characters, which could hide or forge what a terminal shows.

    >>> printable("a\\nb\\x1b[31m")
    'a\\\\nb\\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def cut(text: str, most: int) -> str:
    """A text of at most `most` characters, the middle of a longer one left out.

    >>> cut("abcdefghijklmnop", 11)
    'abc ... nop'
    """
    half = (most - 5) // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"


def quoted(value: object) -> str:
    """A value that somebody else wrote as a message shows it: its repr, cut and without control characters.

    >>> quoted("x" * 1000) == repr("x" * 97 + "..." + "x" * 98)
    True
    """
    try:
        return cut(printable(_SHORT.repr(value)), MAX_QUOTED)
    except Exception:  # an int of more digits than Python prints
        return f"<{type(value).__name__}>"


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 4
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = MAX_QUOTED
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxfrozenset = 20
