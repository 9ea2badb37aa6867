"""The lines of a UTF-8 file, or the row and byte at which it stops being one."""

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from kft.errors import DataError

# UTF-32-LE comes first: its mark begins with that of UTF-16-LE.
WIDE_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


GZIP_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error)
MOST_CHARACTERS = 64 * 1024 * 1024
"""The longest line; past it the line breaks are missing, and must not fill the memory."""


def lines(
    path: Path, source: str, *, newline: str = "", most_characters: int | None = MOST_CHARACTERS
) -> Generator[str, None, None]:
    """The decoded lines of a file with their line ends; a UTF-8 byte order mark is dropped.

    Args:
        path: The file; opened with gzip when its name ends in `.gz`.
        source: What messages call it.
        newline: As in `open`: `""` ends lines at LF, CR or CRLF, `"\\n"` at LF only.
        most_characters: The longest line that is taken; None for any.

    Raises:
        DataError: At the first byte that is not UTF-8, at a NUL, at the mark of UTF-16 or UTF-32, at a line
            that is too long, or when the gzip data is damaged.
    """
    try:
        yield from _decoded(path, source, newline, most_characters)
    except UnicodeDecodeError:
        raise _not_utf8(path, source) from None
    except GZIP_ERRORS as error:
        raise DataError(f"{source}: is not a whole gzip file ({error}); compress or copy it again.") from error


def _decoded(path: Path, source: str, newline: str, most_characters: int | None) -> Iterator[str]:
    limit = -1 if most_characters is None else most_characters + 1
    with _open(path) as file:
        _refuse_wide(file.read(4), source)
        file.seek(0)
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline)
        for number, line in enumerate(iter(lambda: text.readline(limit), ""), 1):
            if len(line) == limit:
                raise DataError(
                    f"{source}, row {number}: is a line of more than {most_characters:,} characters; expected one row "
                    "a line. Put line breaks between the rows."
                )
            if "\0" in line:
                raise DataError(
                    f"{source}, row {number}: holds a NUL byte, so it is not plain text. Remove it, or save the file "
                    "as UTF-8 if it is UTF-16."
                )
            yield line


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def _refuse_wide(start: bytes, source: str) -> None:
    for mark, encoding in WIDE_MARKS.items():
        if start.startswith(mark):
            raise DataError(
                f"{source}: is {encoding} (it begins with that byte order mark); expected UTF-8. "
                f"Convert it: iconv -f {encoding} -t UTF-8 {source} > utf8-{Path(source).name}"
            )


def _not_utf8(path: Path, source: str) -> DataError:
    offset = 0
    with _open(path) as file, contextlib.suppress(*GZIP_ERRORS):  # damage after the byte is of no matter
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return DataError(
                    f"{source}, row {number}: byte 0x{line[error.start]:02x} at byte offset "
                    f"{offset + error.start} is not UTF-8. Convert the file from the encoding it was saved "
                    f"in, for example: iconv -f WINDOWS-1252 -t UTF-8 {source} > utf8-{Path(source).name}"
                )
            offset += len(line)
    return DataError(f"{source}: is not UTF-8, and damaged or changed while it was read; copy it again.")
