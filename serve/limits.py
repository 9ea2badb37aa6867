"""How much the local server takes on: of one request, of all together, and of clients that are slow."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from serve.contract import Refused


@dataclass(frozen=True)
class Limits:
    """Bounds on what clients can make the server hold. Sizes are bytes, times seconds.

    Attributes:
        body_bytes: A longer body is refused with 413, also one that is longer once it is decompressed.
        held_bytes: Bodies of all requests in work together; more are refused with 503.
        rows: Rows in one request.
        row_bytes: Bytes of text, or of serialised features, in one row.
        rows_by_longest: Rows times bytes of the longest one, since answers are padded to the longest.
        connections: Open connections. For one more, that which has kept the server waiting longest is closed.
        header_timeout_s: From a connection, or the first byte of a further request, to the end of its header.
        body_timeout_s: From the header to the end of the body.
        answer_timeout_s: For a client to take an answer off the connection.
    """

    body_bytes: int = 16 * 2**20
    held_bytes: int = 64 * 2**20
    rows: int = 10_000
    row_bytes: int = 2**18
    rows_by_longest: int = 2**24
    connections: int = 512
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    answer_timeout_s: float = 60.0

    def check(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Refuses inputs of too many or too long rows.

        Raises:
            Refused: With 413.
        """
        lengths = row_lengths(arrays)
        if lengths is None or not len(lengths):
            return
        num_rows, longest = len(lengths), int(lengths.max())
        if num_rows > self.rows:
            raise Refused(f"The request has {num_rows:,} rows, expected {self.rows:,} at most. Send several.", 413)
        if longest > self.row_bytes:
            where = f"Row {int(lengths.argmax())} has {longest:,} bytes"
            raise Refused(f"{where}, expected {self.row_bytes:,} at most. Shorten or split it.", 413)
        if num_rows * longest > self.rows_by_longest:
            product = f"{num_rows:,} rows times {longest:,} bytes of the longest is {num_rows * longest:,}"
            what_to_do = "Send long rows in requests of their own."
            raise Refused(f"{product}, expected {self.rows_by_longest:,} at most. {what_to_do}", 413)


def row_lengths(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Bytes in each row over all inputs, `(rows,)`; None where inputs are not of one number of rows.

    >>> row_lengths({"text": np.array([b"good", b""], object)})
    array([4, 0])
    """
    if not arrays or any(array.ndim == 0 for array in arrays.values()):
        return None
    if len({len(array) for array in arrays.values()}) != 1:
        return None
    return np.sum([_lengths(array) for array in arrays.values()], axis=0)


def _lengths(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.object_:
        return np.full(len(array), array.itemsize * (array.size // max(len(array), 1)))
    if array.ndim == 1:
        return np.fromiter(map(len, array), np.int64, len(array))
    return np.array([sum(map(len, row.ravel())) for row in array], np.int64)
