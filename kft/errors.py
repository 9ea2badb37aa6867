"""What can go wrong, said once and clearly; the command line turns each kind into its exit code.

A message says what was found (file, row, column, value), what was expected and what to do.
"""

import difflib
from collections.abc import Iterable


class KftError(Exception):
    """Any refusal of kft. `exit_code` is what the command line exits with."""

    exit_code = 1


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
