"""Connections that cannot use the server up: a limit on their number, deadlines, and a log that stays short.

uvicorn 0.54 has no deadline for a header, counts half-open connections as load, and asyncio in Python 3.11 logs a
traceback for each of 2,048 attempts to accept at the limit of open files. So the protocol is subclassed here, and only
here; it is given to uvicorn as its documented setting `http`.
"""

import asyncio
import logging
import resource
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from serve.limits import Limits

LOGGERS = ("uvicorn.error", "asyncio")
LOG_PERIOD_S = 60.0
LOG_RECORDS = 10


def open_files_share(wanted: int) -> int:
    """As many of `wanted` connections as leave half of the files that the process may open for other things."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft // 2))


def backlog(connections: int) -> int:
    """How many connections are accepted at once: each of them is open before one over the limit can be closed."""
    return max(1, min(128, connections // 4))


def protocol(limits: Limits) -> type[asyncio.Protocol]:
    """The HTTP protocol of uvicorn within these limits.

    A connection is *waiting* while it is the client's turn: before a whole request has come, and after an answer.
    """
    most = open_files_share(limits.connections)
    waiting: dict[H11Protocol, None] = {}  # in the order in which they began to

    class Limited(H11Protocol):
        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._settle()
            if len(self.connections) > most:
                oldest = next(iter(waiting))
                waiting.pop(oldest)
                self.connections.discard(oldest)
                oldest.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            waiting.pop(self, None)
            self._cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._settle()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._settle(is_idle=True)
            if self.transport.get_write_buffer_size():
                self.loop.call_later(limits.answer_timeout_s, self._abort_if_unread)

        def _settle(self, *, is_idle: bool = False) -> None:
            """Whose turn it is now. The body's deadline is the application's, and uvicorn's own closes idle ones."""
            is_between = self.cycle is None or self.cycle.response_complete
            if is_between or self.cycle.more_body:
                waiting.setdefault(self)
            else:
                waiting.pop(self, None)
            if not is_between or is_idle:
                self._cancel()
            elif self.deadline is None:
                self.deadline = self.loop.call_later(limits.header_timeout_s, self.transport.abort)

        def _cancel(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None

        def _abort_if_unread(self) -> None:
            if self.transport.get_write_buffer_size():
                self.transport.abort()

    return Limited


def quieten() -> None:
    """Lets a few records a minute through of the loggers that clients can make write."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(Sparse())


class Sparse(logging.Filter):
    """Lets 10 records through in a minute; the first of the next one says how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._began, self._passed, self._left_out = time.monotonic(), 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged."""
        now = time.monotonic()
        if now - self._began >= LOG_PERIOD_S:
            if self._left_out:
                record.msg, record.args = f"({self._left_out} messages left out) {record.getMessage()}", ()
            self._began, self._passed, self._left_out = now, 0, 0
        self._passed += 1
        self._left_out += self._passed > LOG_RECORDS
        return self._passed <= LOG_RECORDS
