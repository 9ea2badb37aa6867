"""Bodies of requests: read within their limits of size and time, decompressed, and counted together."""

import contextlib
import zlib
from collections.abc import AsyncIterator

from anyio import fail_after, to_thread
from starlette.requests import Request

from serve.contract import Refused
from serve.limits import Limits

GZIP = ("gzip", "x-gzip")


class Bodies:
    """Reads bodies, and knows how many bytes of them all requests in work hold."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._held = 0

    @contextlib.asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request, held until the `with` ends.

        Raises:
            Refused: With 408 if it is slow, 413 if it is long, 415 if it is compressed by anything but gzip, 503 if
                there is no room, 400 if it is not what its header says.
        """
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity", *GZIP):
            raise Refused(f"The body has the Content-Encoding {encoding[:20]!r}, expected gzip or none.", 415)
        body = bytearray()
        try:
            try:
                with fail_after(self._limits.body_timeout_s):
                    await self._read(request, body)
            except TimeoutError:
                slow = f"The body did not arrive within {self._limits.body_timeout_s:g} s."
                raise Refused(f"{slow} Send fewer rows in one request.", 408) from None
            if encoding in GZIP:
                content = await to_thread.run_sync(gunzip, body, self._limits.body_bytes)
                self._held += len(content) - len(body)
                body = content
            yield bytes(body)
        finally:
            self._held -= len(body)

    async def _read(self, request: Request, body: bytearray) -> None:
        """Fills `body`; refused as soon as it is known to be too long, so that a long one is never held."""
        limit = self._limits.body_bytes
        announced = int(request.headers.get("content-length", 0))
        if announced <= limit:
            async for chunk in request.stream():
                body += chunk
                self._held += len(chunk)
                if len(body) > limit:
                    break
                if self._held > self._limits.held_bytes:
                    raise Refused("The server is busy with other requests. Try again.", 503)
        if max(announced, len(body)) > limit:
            raise Refused(f"The body is longer than {limit:,} bytes. Send fewer rows in one request.", 413)


def gunzip(body: bytes | bytearray, max_bytes: int) -> bytearray:
    """The content of one gzip stream.

    Raises:
        Refused: With 413 if it is longer than `max_bytes`, with 400 if it is damaged, cut or followed by more.
    """
    stream = zlib.decompressobj(wbits=31)
    try:
        content = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Refused(f"The body cannot be decompressed: {error}. Expected gzip.") from None
    if len(content) > max_bytes:
        what_to_do = "Send fewer rows in one request."
        raise Refused(f"The body is longer than {max_bytes:,} bytes once it is decompressed. {what_to_do}", 413)
    if not stream.eof or stream.unused_data:
        raise Refused("The body is not one whole gzip stream. Send it again.")
    return bytearray(content)
