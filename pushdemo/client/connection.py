"""One request and its response, over http.client: redirects, compression, timeouts.

Everything that the network does to it is a Disconnected with one line that says what; http.client's
errors, the socket's and zlib's end here.
"""

from __future__ import annotations

import re
import socket
import ssl
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from importlib.metadata import version
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from pushdemo.client.errors import BadStream, Disconnected, Refused, TooLarge, WatchError
from pushdemo.client.event import read_date

USER_AGENT = f"pushdemo/{version('pushdemo')}"
MAXIMUM_REDIRECTS = 5
# At most so much is read, and decompressed, at a time.
_CHUNK = 64 * 1024
# Of the text that explains an error, so much is kept.
_EXPLANATION = 4096
_NOT_IN_HOST = re.compile(r"[\x00-\x20\x7f]")
# What a request line may hold as it is; the rest is percent-encoded, as browsers do.
_IN_TARGET = "%/:=&?~+!$,;'@()*[]"


def parse_url(url: str) -> SplitResult:
    """The parts of an address. `host:port` alone means http, and its /server/index.

    Raises ValueError for what is not the address of a server.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{url}: this must begin with http:// or https://")
    if not parts.hostname or _NOT_IN_HOST.search(parts.hostname):
        raise ValueError(f"{url}: this names no host")
    if parts.username is not None:
        raise ValueError(f"{parts.hostname}: a name and a password in the URL are not supported")
    _ = parts.port, parts.hostname.encode("idna")  # each raises ValueError
    return parts if parts.path.strip("/") else parts._replace(path="/server/index")


def get(
    url: SplitResult,
    headers: Mapping[str, bytes],
    *,
    timeout: float,
    tls: ssl.SSLContext | None = None,
    opened: Callable[[socket.socket], None] = lambda _: None,
) -> Response:
    """Send a GET request and read the response's head, also where a redirect leads.

    timeout: seconds to connect in, and then at most between two arrivals of bytes.
    tls: for https; by default, the system's certificates are trusted.
    opened: called with each connected socket. To shut it down, from any thread, ends the read.
    Raises Disconnected, and WatchError for redirects without end.
    """
    for _ in range(MAXIMUM_REDIRECTS + 1):
        response = _get(url, headers, timeout, tls, opened)
        location = response.header("Location")
        if response.status not in (301, 302, 303, 307, 308) or location is None:
            return response
        response.close()
        try:
            url = parse_url(urljoin(url.geturl(), location))
        except ValueError as error:
            raise WatchError(f"a redirect leads nowhere: {error}") from None
    raise WatchError(f"more than {MAXIMUM_REDIRECTS} redirects, the last to {url.geturl()}")


def _get(
    url: SplitResult,
    headers: Mapping[str, bytes],
    timeout: float,
    tls: ssl.SSLContext | None,
    opened: Callable[[socket.socket], None],
) -> Response:
    assert url.hostname is not None  # parse_url saw to it
    connection: HTTPConnection
    if url.scheme == "https":
        context = tls or ssl.create_default_context()
        connection = HTTPSConnection(url.hostname, url.port, timeout=timeout, context=context)
    else:
        connection = HTTPConnection(url.hostname, url.port, timeout=timeout)
    target = quote(url.path, _IN_TARGET) + (f"?{quote(url.query, _IN_TARGET)}" if url.query else "")
    try:
        with _one_kind_of_error(timeout):
            connection.connect()
            opened(connection.sock)
            # One answer is all that is wanted of it, whether that is endless or not.
            ours = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", "Connection": "close"}
            connection.request("GET", target, headers={**ours, **headers})
            return Response(connection, connection.getresponse(), url.geturl(), timeout)
    except BaseException:
        connection.close()
        raise


class Response:
    """A response whose head has been read. To be closed, and good as a context manager.

    url: where it came from, after redirects.
    """

    def __init__(
        self, connection: HTTPConnection, response: HTTPResponse, url: str, timeout: float
    ) -> None:
        self.status = response.status
        self.url = url
        self._connection = connection
        self._response = response
        self._timeout = timeout
        self._inflater: zlib._Decompress | None = None
        encoding = response.getheader("Content-Encoding", "identity").lower()
        if encoding in ("gzip", "x-gzip"):
            self._inflater = zlib.decompressobj(31)
        elif encoding != "identity":
            raise BadStream(f"the answer has Content-Encoding: {encoding}, which nobody asked for")

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def header(self, name: str) -> str | None:
        return self._response.getheader(name)

    def chunks(self) -> Iterator[bytes]:
        """The body, as it comes. Raises Disconnected where it breaks off before its end."""
        for data in self._received():
            if self._inflater is None:
                yield data
            else:
                yield from _inflate(self._inflater, data)

    def read(self, maximum: int) -> bytes:
        """The body, whole. Raises TooLarge where it is larger than `maximum` bytes."""
        body = bytearray()
        for data in self.chunks():
            body += data
            if len(body) > maximum:
                raise TooLarge(f"the answer is larger than {maximum} bytes")
        if self._inflater is not None and not self._inflater.eof:
            raise Disconnected("the answer broke off")
        return bytes(body)

    def refusal(self) -> WatchError:
        """What this response is as an error: Disconnected where a later attempt may do better."""
        try:
            text = b"".join(_first(self.chunks(), _EXPLANATION)).decode("utf-8", "replace")
        except WatchError:
            text = ""  # the status says it, too
        refused = Refused(self.status, self._response.reason, text)
        if self.status < 500 and self.status not in (408, 425, 429):
            return refused
        return Disconnected(str(refused), self._retry_after())

    def _retry_after(self) -> float:
        """The seconds of Retry-After. Its date is held against the server's own, whose clock may
        not be ours."""
        value = self.header("Retry-After") or ""
        if value.isascii() and value.isdigit():
            return float(value[:9])
        until, now = read_date(value or None), read_date(self.header("Date"))
        return 0.0 if until is None or now is None else max(0.0, until - now)

    def _received(self) -> Iterator[bytes]:
        # Counted here: before Python 3.13, read1 does not.
        left = self._response.length
        while left is None or left > 0:
            with _one_kind_of_error(self._timeout):
                data = self._response.read1(_CHUNK)
            if not data:
                if left is not None:
                    raise Disconnected("the answer broke off")
                return
            if left is not None:
                left -= len(data)
            yield data


def _inflate(inflater: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """What compressed bytes stand for: all of it, but never more than a chunk in memory."""
    full = True
    while full:
        try:
            inflated = inflater.decompress(data, _CHUNK)
        except zlib.error as error:
            raise BadStream(f"this is not gzip: {error}") from None
        if inflated:
            yield inflated
        # A full chunk may have left some of what it stands for inside, with no byte unconsumed.
        full, data = len(inflated) == _CHUNK, inflater.unconsumed_tail


def _first(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for data in chunks:
        yield data[:size]
        size -= len(data)
        if size <= 0:
            return


@contextmanager
def _one_kind_of_error(timeout: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        # The system's own patience may end first; then it says so.
        raise Disconnected(error.strerror or f"nothing came for {timeout:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise WatchError(f"the server's certificate: {error.verify_message}") from None
    except IncompleteRead:
        raise Disconnected("the answer broke off") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Disconnected(reason) from None
