"""Models saved as presets: whole or not at all, flushed, and one line where the disk is full.

HDF5 ends the process with a segmentation fault where a write fails while it closes a file. So its files are written
through `_HeldFile`, which never fails: it keeps the first error for afterwards.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from kft import disk, writable
from kft.accelerate.internals import opening_weights
from kft.errors import RunError, TrainingError
from kft.models.finite import not_finite

LARGE_BYTES = 4 * 2**20
VARIABLE_BYTES = 2**10  # what HDF5 needs of its own for each


def save_task(model: Any, preset_dir: Path) -> None:
    """Saves a trained task model as a preset of float32, which its weights are whatever it computed in.

    KerasHub opens no task whose policy is mixed. The model is not for use afterwards. It takes no memory but that of
    one variable.

    Raises:
        TrainingError: A weight is not finite. Nothing is written.
        RunError: The disk is full or not writable. What was at `preset_dir` stays.
    """
    refuse_not_finite(model, preset_dir)
    advice = f"What was written before is intact: make room, then go on with --resume {preset_dir.parent}"
    needed = sum(4 * math.prod(variable.shape) + VARIABLE_BYTES for variable in _unique(model.variables))
    writable.require_space(preset_dir.parent, needed, RunError, advice)
    for part in (model, model.backbone):
        part.dtype_policy = keras.DTypePolicy("float32")
    with disk.writing_folder(preset_dir, RunError, advice) as folder:
        save_to_preset(folder, model)


def save_to_preset(folder: Path, *parts: Any) -> None:
    """KerasHub's `save_to_preset` of a model, a backbone or a tokenizer, without a crash where the disk is full.

    Raises:
        OSError: The disk refused.
    """
    with _held_files():
        for part in parts:
            part.save_to_preset(str(folder))


def refuse_not_finite(model: Any, where: Path) -> None:
    """Checks all weights of a model.

    Raises:
        TrainingError: Names the first with a number that is infinite or NaN.
    """
    for path in not_finite(model.weights)[:1]:
        raise TrainingError(
            f"{where}: not saved, since the weight {path} holds numbers that are infinite or NaN after training. Fit "
            "again with a lower learning_rate, and check weight_decay and max_grad_norm."
        )


def _unique(variables: Any) -> list[Any]:
    return list({id(variable): variable for variable in variables}.values())


class _HeldFile:
    """A file whose writes never fail, as HDF5 needs it: the first error is kept, and what follows goes nowhere.

    What HDF5 reads again while it writes, small blocks of its own, is kept in memory from the first error on.
    """

    def __init__(self, path: str | Path):
        self.error: OSError | None = None
        self._path = str(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        self._place, self._size = 0, os.fstat(self._descriptor).st_size
        self._kept: list[tuple[int, bytes]] = []

    def __repr__(self) -> str:
        return self._path  # h5py takes it for the file's name, and Keras reads that of shards

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """To a place from the beginning or, as HDF5 asks for the size, from the end."""
        self._place = place + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        content = bytearray(self._size - self._place if size < 0 else size)
        return bytes(content[: self.readinto(content)])

    def readinto(self, buffer: Any) -> int:
        view, begin = memoryview(buffer).cast("B"), self._place
        found = os.preadv(self._descriptor, [view], begin)
        for place, content in self._kept:
            first, last = max(place, begin), min(place + len(content), begin + len(view))
            if first < last:
                view[first - begin : last - begin] = content[first - place : last - place]
        self._place += len(view)
        return len(view) if self._kept else found

    def write(self, content: Any) -> int:
        view, begin = memoryview(content).cast("B"), self._place
        self._place += len(view)
        self._size = max(self._size, self._place)
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += os.pwrite(self._descriptor, view[done:], begin + done)
            except OSError as error:
                self.error = error
        if self.error is not None and len(view) <= LARGE_BYTES:
            self._kept.append((begin, bytes(view)))
        return len(view)

    def truncate(self, size: int) -> int:
        """Cuts or, with a hole, lengthens the file."""
        self._size = size
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            self.error = self.error or error
        return size

    def flush(self) -> None:
        """Nothing is held back; the folder is flushed to the disk as a whole."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


@contextlib.contextmanager
def _held_files() -> Iterator[None]:
    """Lets Keras write weights through such files, which is the only way there is to say how it opens them.

    Raises:
        OSError: One could not be written.
    """
    files: list[_HeldFile] = []

    def held(opened: Callable[..., Any], store: Any, path: Any, mode: str | None = None) -> Any:
        mode = mode or store.mode
        if mode == "r" or store.archive:
            return opened(store, path, mode)
        files.append(_HeldFile(path))
        return h5py.File(files[-1], mode=mode)

    try:
        with opening_weights(held):
            yield
    except Exception as error:
        raise _first_error(files) or error from None
    finally:
        for file in files:
            file.close()
    refused = _first_error(files)
    if refused is not None:
        raise refused


def _first_error(files: list[_HeldFile]) -> OSError | None:
    return next((file.error for file in files if file.error is not None), None)
