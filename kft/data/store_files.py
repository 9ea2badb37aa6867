"""A token store as files in a folder: one for each feature, the offsets, the texts, and meta.json.

The files are compared with their checksums when they are opened, and what they hold with what a store may hold, since
others may have written them.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np
from typing_extensions import TypedDict

from kft import disk, untrusted
from kft.data.store import Store, group_of, offsets_of, without_padding
from kft.errors import DataError
from kft.text.encoded import Encoded

META = "meta.json"
BLOCK_BYTES = 4 * 2**20
TEXTS = "texts.index"
TYPES = (
    *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.float16, ml_dtypes.bfloat16, np.float32, np.float64),
)
DTYPES = {np.dtype(type_).name: np.dtype(type_) for type_ in TYPES}
_INDEX = np.dtype(np.int64)
_NAME = re.compile(r"[A-Za-z0-9_]*")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Sum(NamedTuple):
    """What a file of a store is known by: its size in bytes and the CRC-32 of its content."""

    size: int = 0
    crc: int = 0

    def of(self, content: Any) -> Sum:
        """The sum with this content at the end."""
        return Sum(self.size + len(content), zlib.crc32(content, self.crc))


class Form(TypedDict):
    """What the values of a feature are: the name of their dtype, and the shape of each."""

    dtype: str
    shape: list[int]


class Meta(TypedDict):
    """The content of meta.json: features and groups, padding, and size and CRC-32 of each file."""

    features: dict[str, Form]
    row_features: dict[str, Form]
    groups: list[str]
    pad_values: dict[str, float]
    mask_names: list[str]
    sums: dict[str, list[int]]


def write(slices: Iterator[Encoded], encoder: Any, made: Callable[[str], IO[bytes]], folder: Path | None) -> Store:
    """Writes the features of slices of texts into files, and maps them.

    Args:
        slices: Of the texts, in their order.
        encoder: Has `pad_values` and `mask_names`.
        made: Makes the file of a name.
        folder: Where the other arrays and meta.json go, so that the store can be opened again; None for nowhere.

    Raises:
        OSError: The disk is full or fails.
        ValueError: Slices whose features differ in name, dtype or trailing shape; or a dtype that is none of numbers.
    """
    files: dict[str, IO[bytes]] = {}
    forms: dict[str, Form] = {}
    of_rows: set[str] = set()
    sums: dict[str, Sum] = {}
    all_lengths: dict[str, list[np.ndarray]] = {}
    all_texts = [np.zeros(0, np.int64)]
    with ExitStack() as open_files:
        num_texts = 0
        for encoded in slices:
            features = {**without_padding(encoded), **encoded.row_features}
            found = {name: _form(name, values) for name, values in features.items()}
            if not forms:
                forms, of_rows = found, set(encoded.row_features)
                files = {name: open_files.enter_context(made(_file(name, form))) for name, form in forms.items()}
            elif found != forms or set(encoded.row_features) != of_rows:
                raise ValueError(f"found a slice of texts with the features {found}, expected {forms} as in the first.")
            for name, values in features.items():
                content = np.ascontiguousarray(values).tobytes()
                files[name].write(content)
                path = _file(name, forms[name])
                sums[path] = sums.get(path, Sum()).of(content)
            for group, lengths in encoded.lengths.items():
                all_lengths.setdefault(group, []).append(lengths)
            all_texts.append(encoded.texts + num_texts)
            num_texts += int(encoded.texts[-1]) + 1
        for file in files.values():
            file.flush()
        mapped = {name: _map(file, forms[name]) for name, file in files.items()}
    texts = np.concatenate(all_texts)
    offsets = {group: offsets_of(np.concatenate(parts)) for group, parts in all_lengths.items()}
    if folder is not None:
        for name, values in {TEXTS: texts, **{_offsets_file(group): o for group, o in offsets.items()}}.items():
            content = values.astype(_INDEX).tobytes()
            (folder / name).write_bytes(content)
            sums[name] = Sum().of(content)
        meta = Meta(
            features={name: form for name, form in forms.items() if name not in of_rows},
            row_features={name: form for name, form in forms.items() if name in of_rows},
            groups=list(all_lengths),
            pad_values=encoder.pad_values,
            mask_names=list(encoder.mask_names),
            sums={name: list(each) for name, each in sums.items()},
        )
        disk.write_json(folder / META, meta)
    return Store(
        {name: values for name, values in mapped.items() if name not in of_rows},
        offsets,
        texts,
        encoder.pad_values,
        tuple(encoder.mask_names),
        row_features={name: values for name, values in mapped.items() if name in of_rows},
    )


def read(folder: Path, encoder: Any, num_texts: int | None) -> Store:
    """A store that was written before.

    Args:
        folder: Where it was written.
        encoder: Has `pad_values`, `mask_names` and, if known, `num_tokens`, the size of its vocabulary.
        num_texts: How many texts there are, if known.

    Raises:
        FileNotFoundError: It is not there.
        DataError: It is damaged, or not one of this encoder and these texts.
    """
    if not (folder / META).is_file():
        raise FileNotFoundError(folder)
    meta: Meta = untrusted.read_json(folder / META, Meta, DataError)
    if meta["pad_values"] != encoder.pad_values or tuple(meta["mask_names"]) != tuple(encoder.mask_names):
        raise DataError(f"{folder}: was written by another encoder.")
    forms = {**meta["features"], **meta["row_features"]}
    names, groups = [*meta["features"], *meta["row_features"]], meta["groups"]
    is_grouped = bool(groups) or not meta["features"]
    if not names or len(forms) != len(names) or not is_grouped or not all(map(_NAME.fullmatch, [*names, *groups])):
        raise DataError(f"{folder / META}: its names are not those of a token store.")
    for name, form in forms.items():
        if form["dtype"] not in DTYPES or not all(size > 0 for size in form["shape"]):
            raise DataError(f"{folder / META}: {name} has a dtype or a shape that no feature has.")
    texts = _numbers(folder, TEXTS, meta)
    offsets = {group: _numbers(folder, _offsets_file(group), meta) for group in groups}
    limit = getattr(encoder, "num_tokens", None)
    mapped = {
        name: _mapped(folder / _file(name, form), form, meta, limit if name.endswith("token_ids") else None)
        for name, form in forms.items()
    }
    features = {name: mapped[name] for name in meta["features"]}
    row_features = {name: mapped[name] for name in meta["row_features"]}
    if not _fit(features, row_features, offsets, texts, num_texts):
        raise DataError(f"{folder}: its rows do not fit together.")
    # The encoder's own padding, which JSON would make floats of: it is part of what decides on passes.
    return Store(features, offsets, texts, encoder.pad_values, tuple(encoder.mask_names), row_features=row_features)


def _form(name: str, values: np.ndarray) -> Form:
    if values.dtype.name not in DTYPES:
        raise ValueError(f"{name}: found values of {values.dtype}, expected numbers: {', '.join(DTYPES)}.")
    return Form(dtype=values.dtype.name, shape=list(values.shape[1:]))


def _file(name: str, form: Form) -> str:
    """Of a feature; neither a name nor a dtype has what other files of a store end with."""
    return f"{name}.{form['dtype']}"


def _offsets_file(group: str) -> str:
    return f"{group}offsets.index"


def _sum(meta: Meta, name: str) -> Sum:
    recorded = meta["sums"].get(name, [])
    return Sum(*recorded) if len(recorded) == 2 else Sum()


def _fit(
    features: dict[str, np.ndarray],
    row_features: dict[str, np.ndarray],
    offsets: dict[str, np.ndarray],
    texts: np.ndarray,
    num_texts: int | None,
) -> bool:
    """Whether every row is inside the values of its features, and every text has its rows."""
    steps = np.diff(texts, prepend=-1)
    if not (len(texts) and steps[0] == 1 and ((steps == 0) | (steps == 1)).all()):
        return False
    if num_texts is not None and texts[-1] != num_texts - 1:
        return False
    ends = {name: int(offsets[group_of(name, offsets)][-1]) for name in features}
    return (
        all(len(values) == ends[name] for name, values in features.items())
        and all(len(values) == len(texts) for values in row_features.values())
        and all(len(each) == len(texts) + 1 and each[0] == 0 and (np.diff(each) > 0).all() for each in offsets.values())
    )


def _numbers(folder: Path, name: str, meta: Meta) -> np.ndarray:
    """The int64 values of a file, read into memory."""
    with _opened(folder / name, _sum(meta, name), _INDEX.itemsize) as file:
        content = file.read()
    if Sum().of(content) != _sum(meta, name):
        raise DataError(f"{folder / name}: damaged on disk, its checksum is not the recorded one.")
    return np.frombuffer(content, _INDEX)


def _mapped(path: Path, form: Form, meta: Meta, limit: int | None) -> np.ndarray:
    """The values of a feature as a memory map, each read once to be checked."""
    expected, found = _sum(meta, path.name), Sum()
    dtype = DTYPES[form["dtype"]]
    buffer = memoryview(bytearray(min(BLOCK_BYTES, max(expected.size, dtype.itemsize))))
    with _opened(path, expected, dtype.itemsize * math.prod(form["shape"])) as file:
        # Read, not mapped, so that the pages do not count as memory of this process.
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            found = found.of(buffer[:count])
            values = np.frombuffer(buffer[: count - count % dtype.itemsize], dtype)
            if limit is not None and len(values) and not 0 <= values.min() <= values.max() < limit:
                raise DataError(f"{path}: holds token ids that the vocabulary of {limit:,} does not have.")
        if found != expected:
            raise DataError(f"{path}: damaged on disk, its checksum is not the recorded one.")
        return _map(file, form)


def _map(file: IO[bytes], form: Form) -> np.ndarray:
    """The values of a whole file as a memory map: `(values, …)`."""
    return np.memmap(file, DTYPES[form["dtype"]], mode="r").reshape(-1, *form["shape"])


@contextlib.contextmanager
def _opened(path: Path, expected: Sum, item_bytes: int) -> Iterator[IO[bytes]]:
    """A regular file of the recorded size, which is not empty."""
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path}: missing or damaged ({error.strerror}).") from None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size != expected.size or not about.st_size:
            raise DataError(f"{path}: found {about.st_size:,} bytes, expected {expected.size:,}.")
        if about.st_size % item_bytes:
            raise DataError(f"{path}: found {about.st_size:,} bytes, expected a multiple of {item_bytes}.")
        yield file
