"""Requests over HTTP, as many as are asked for, by a process that costs little itself.

    python benchmarks/serve_load.py closed --port 8000 --image photo.jpg --clients 16 --seconds 30
    python benchmarks/serve_load.py open --port 8000 --image photo.jpg --rate 20 --seconds 600

`closed`: each client sends its next request when it has its answer. `open`: requests arrive at
random at a rate, whatever becomes of them. Prints JSON: a list of [second of arrival, seconds until
the whole answer, status or 0 for a lost connection, version of the model].
"""

import argparse
import asyncio
import json
import random
import time
from pathlib import Path


class Connection:
    """One kept-alive connection; opened anew when it was lost."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port, self._request = port, request
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self) -> tuple[int, str]:
        """Status and model version of an answer; (0, "") where the connection was lost.

        One that the server closed while it was idle is opened anew, as every client does.
        """
        was_idle = self._writer is not None
        try:
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._writer.write(self._request)
            return await self._answer()
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self.close()
            unread = isinstance(error, ConnectionError) or not getattr(error, "partial", b"x")
            return await self.ask() if was_idle and unread else (0, "")

    async def _answer(self) -> tuple[int, str]:
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ", 2)[1])
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        fields = {name.lower(): value for name, value in fields.items()}
        if fields.get("transfer-encoding") == "chunked":
            while size := int((await self._reader.readline()).strip(), 16):
                await self._reader.readexactly(size + 2)
            await self._reader.readexactly(2)
        else:
            await self._reader.readexactly(int(fields["content-length"]))
        if fields.get("connection") == "close":
            self.close()
        return status, fields.get("x-model-version", "")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def request_of(path: str, image: bytes) -> bytes:
    """A whole POST."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: {len(image)}\r\n\r\n"
    )
    return head.encode() + image


async def closed(port: int, request: bytes, clients: int, seconds: float) -> list[tuple]:
    """Each client sends its next request when it has its answer."""
    found, began = [], time.perf_counter()

    async def client() -> None:
        connection = Connection(port, request)
        while (since := time.perf_counter() - began) < seconds:
            status, version = await connection.ask()
            found.append((since, time.perf_counter() - began - since, status, version))
            if status in (0, 503):
                await asyncio.sleep(0.1)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


async def arriving(port: int, request: bytes, rate: float, seconds: float) -> list[tuple]:
    """Requests arrive at random, `rate` a second; idle connections are used again."""
    found, idle, began = [], [], time.perf_counter()

    async def one(since: float) -> None:
        connection = idle.pop() if idle else Connection(port, request)
        status, version = await connection.ask()
        found.append((since, time.perf_counter() - began - since, status, version))
        idle.append(connection)

    draw, due = random.Random(0), 0.0
    async with asyncio.TaskGroup() as group:
        while due < seconds:
            await asyncio.sleep(max(0.0, due - (time.perf_counter() - began)))
            group.create_task(one(time.perf_counter() - began))
            due += draw.expovariate(rate)
    for connection in idle:
        connection.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("closed", "open"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--path", default="/v1/body?format=npz")
    parser.add_argument("--clients", type=int, default=16, help="of `closed`")
    parser.add_argument("--rate", type=float, default=10, help="a second, of `open`")
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    request = request_of(arguments.path, arguments.image.read_bytes())
    if arguments.kind == "closed":
        work = closed(arguments.port, request, arguments.clients, arguments.seconds)
    else:
        work = arriving(arguments.port, request, arguments.rate, arguments.seconds)
    print(json.dumps(asyncio.run(work)))


if __name__ == "__main__":
    main()
