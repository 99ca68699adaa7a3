"""A TCP proxy that does what networks do: it falls silent with its connections open, cuts them, is slow."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Coroutine
from typing import Any, Literal

Mode = Literal["pass", "silent", "cut", "slow", "lost"]


class Proxy:
    """Listens on a free port of the loopback, and passes on to `target`: a port there, or the path of a socket file.

    With `secured` it speaks TLS to those who connect.

    `mode` holds for new connections and for those that are open: `silent` takes everything and passes nothing on, in
    either direction, and never closes; `cut` closes; `slow` passes on a few bytes at a time.
    """

    def __init__(self, target: int | str, secured: ssl.SSLContext | None = None) -> None:
        self._target, self._secured = target, secured
        self._mode: Mode = "pass"
        self._writers: set[asyncio.StreamWriter] = set()
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
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._secured)
        return int(self._server.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        self._server.close()
        await asyncio.sleep(0.05)  # connections that were just accepted have a task that has not begun
        self._close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0.05)  # what was aborted is closed by the loop's next rounds

    def _close(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(asyncio.CancelledError):  # else asyncio writes a traceback about it
            await self._bring(reader, writer)
        writer.transport.abort()
        self._writers.discard(writer)

    async def _bring(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        if self._mode == "cut":
            return
        await self._passes.wait()
        try:
            there = await (
                asyncio.open_unix_connection(self._target)
                if isinstance(self._target, str)
                else asyncio.open_connection("127.0.0.1", self._target)
            )
        except OSError:
            return
        self._writers.add(there[1])
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(self._pass(number, reader, there[1]), self._pass(number, there[0], writer))
        finally:
            there[1].transport.abort()
            self._writers.discard(there[1])

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
