"""Ways to send what no honest client sends: as it is, drop by drop, or over a connection kept open."""

import contextlib
import socket
import time
from http.client import HTTPConnection, HTTPException


def status_of_raw(address, data, is_due, timeout_s=20.0):
    """Send bytes as they are; the status of the first answer, None where none came.

    Where no answer is due, the connection is left at once, as a client that has gone does.
    """
    with socket.create_connection(address, timeout=timeout_s) as connection:
        try:
            connection.sendall(data)
            if not is_due:
                return None
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            return None
    return int(answer.split(maxsplit=2)[1]) if answer.startswith(b"HTTP/") else None


def dripped(address, start, piece=b"", every_s=0.05, timeout_s=20.0):
    """Send the beginning of a request, then a piece again and again; what is answered, all of it.

    The connection stays open on this side: the answer ends when the server ends it.
    """
    with socket.create_connection(address, timeout=timeout_s) as connection:
        connection.sendall(start)
        connection.settimeout(every_s)
        answer, end = b"", time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                come = connection.recv(65536)
                if not come:
                    return answer
                answer += come
            except TimeoutError:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(piece)
            except ConnectionError:
                return answer
    raise AssertionError(f"the connection is still open after {timeout_s} s; answered: {answer!r}")


class Sender:
    """Sends damaged requests over one connection that is kept open while the server keeps it."""

    def __init__(self, address):
        self._connection = HTTPConnection(*address, timeout=60)

    def close(self):
        self._connection.close()

    def send(self, request):
        """Status and headers of the answer, and its body."""
        path = request.path.encode("ascii", "backslashreplace").decode()
        for attempt in range(2):
            try:
                self._connection.putrequest("POST", path, skip_host="Host" in request.headers)
                for name, value in request.headers.items():
                    self._connection.putheader(name, value.encode("utf-8"))
                self._connection.putheader("Content-Length", str(len(request.body)))
                self._connection.endheaders(request.body)
                answer = self._connection.getresponse()
                return answer.status, answer.headers, answer.read()
            except (HTTPException, ConnectionError):
                self._connection.close()
                if attempt:
                    raise
        raise AssertionError("not reached")
