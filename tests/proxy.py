"""A TCP proxy that does what networks do: it falls silent with its connections open, cuts them, is slow."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Literal

Mode = Literal["pass", "silent", "cut", "slow", "lost"]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Listens on a free port of the loopback, and passes on to `target`: a port there, or the path of a socket file.

    With `secured` it speaks TLS to those who connect.

    `mode` holds for new connections and for those that are open: `silent` takes everything and passes nothing on, in
    either direction, and never closes; `cut` closes; `slow` passes on a few bytes at a time.
    """

    def __init__(self, target: int | str, secured: ssl.SSLContext | None = None) -> None:
        self._target, self._secured = target, secured
        self._mode: Mode = "pass"
        self._open: set[asyncio.StreamWriter] = set()  #: both sides of each connection
        self._serving: set[asyncio.Task[None]] = set()  #: one for each connection
        self._loop = asyncio.new_event_loop()
        self._passes = asyncio.Event()
        self._passes.set()
        self._lost_before = 0  #: connections up to this number are silent for ever
        self.connections = 0  #: how many were accepted so far

    def __enter__(self) -> Proxy:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    @property
    def mode(self) -> Mode:
        """What happens to connections."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._do(self._change(mode))

    async def _change(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "silent":
            self._passes.clear()
        else:
            self._passes.set()
        if mode == "cut":
            self._close()
        if mode == "lost":
            self._lost_before = self.connections

    async def _listen(self) -> int:
        # not by asyncio's server: what it accepts just before it is closed, it leaves unclosed
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._listening.setblocking(False)
        self._loop.add_reader(self._listening, self._accept)
        return int(self._listening.getsockname()[1])

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # who asked is gone again
            accepted, _ = self._listening.accept()
            task = self._loop.create_task(self._serve(accepted))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _end(self) -> None:
        self._loop.remove_reader(self._listening)
        self._listening.close()
        await asyncio.sleep(0)  # all have begun: from here on each task closes what it opened, whatever happens to it
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted is closed by the loop's next round

    def _close(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        with contextlib.suppress(OSError):
            async with self._streams(self._loop.connect_accepted_socket, accepted, ssl=self._secured) as here:
                await self._bring(*here)

    @contextlib.asynccontextmanager
    async def _streams(self, connect: Callable[..., Any], *where: Any, **more: Any) -> AsyncIterator[Streams]:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await connect(lambda: protocol, *where, **more)
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        self._open.add(writer)
        try:
            yield reader, writer
        finally:
            transport.abort()
            self._open.discard(writer)

    async def _bring(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        if self._mode == "cut":
            return
        await self._passes.wait()
        to_socket_file = isinstance(self._target, str)
        connect = self._loop.create_unix_connection if to_socket_file else self._loop.create_connection
        where = (self._target,) if to_socket_file else ("127.0.0.1", self._target)
        async with self._streams(connect, *where) as there:
            await asyncio.gather(self._pass(number, reader, there[1]), self._pass(number, there[0], writer))

    async def _pass(self, number: int, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self._passes.wait()
            if number <= self._lost_before:
                continue
            step = 16 if self._mode == "slow" else len(data)
            for at in range(0, len(data), step):
                await self._passes.wait()
                sink.write(data[at : at + step])
                await sink.drain()
                if step < len(data):
                    await asyncio.sleep(0.01)
        raise ConnectionError  # the other direction ends, too
