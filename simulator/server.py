"""The process: uvicorn, on the loopback unless told otherwise, able to refuse connections and to stop at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from simulator.api import Api
from simulator.control import ControlRoom
from simulator.profile import load_profile
from simulator.wire import CONNECTION, Connection

KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048
#: How long answers under way are waited for when the process is told to stop.
GRACE_SECONDS = 0.3

_CLOSING_WAIT_SECONDS = 0.02
#: Every address of a container: its network is the border then. On a machine it would open the control room to others.
EVERYWHERE = "0.0.0.0"  # noqa: S104 - only if it is asked for
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class FaultyProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which hands its connection to the application and notes when a request arrived."""

    def on_headers_complete(self) -> None:
        """Leave the connection in the scope, then go on."""
        connection = Connection(self.transport, time.monotonic())
        extensions = {CONNECTION: connection}
        self.scope["extensions"] = extensions  # type: ignore[typeddict-item]
        super().on_headers_complete()
        connection.cycle = self.cycle


class SimulatorServer(uvicorn.Server):
    """uvicorn's server, which can close its socket for a while and open it again on the same port."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[int], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._port = config.port
        self._reopening: asyncio.TimerHandle | None = None
        self._reopened: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the socket and tell on which port."""
        await super().startup(sockets)
        if self.started:
            self._port = self.servers[0].sockets[0].getsockname()[1]
            self._on_ready(self._port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Give answers under way a moment, cut the rest."""
        if self._reopening is not None:
            self._reopening.cancel()
        self._close_socket()
        connections = self.server_state.connections
        for connection in list(connections):
            connection.shutdown()
        ends = time.monotonic() + GRACE_SECONDS
        while connections and time.monotonic() < ends:  # noqa: ASYNC110 - uvicorn's set offers no event
            await asyncio.sleep(_CLOSING_WAIT_SECONDS)
        self._cut_connections()
        await super().shutdown(sockets)

    async def go_offline(self, seconds: float, drop_connections: bool) -> None:
        """Refuse connections for so many seconds from now; a second call counts anew."""
        loop = asyncio.get_running_loop()
        self._close_socket()
        if drop_connections:
            loop.call_later(_CLOSING_WAIT_SECONDS, self._cut_connections)
        if self._reopening is not None:
            self._reopening.cancel()
        self._reopening = loop.call_later(seconds, self._reopen)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM without raising them again afterwards: being told to stop is no failure."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _close_socket(self) -> None:
        for server in self.servers:
            server.close()
        self.servers = []

    def _cut_connections(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, FaultyProtocol):
                connection.transport.abort()

    def _reopen(self) -> None:
        self._reopening = None
        self._reopened = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        """Open the socket again, on the port that it had."""
        config = self.config

        def protocol() -> FaultyProtocol:
            return FaultyProtocol(config=config, server_state=self.server_state, app_state=self.lifespan.state)

        loop = asyncio.get_running_loop()
        self.servers = [await loop.create_server(protocol, config.host, self._port, backlog=config.backlog)]


def serve(host: str = "127.0.0.1", port: int = 0, profile: str = "clean", seed: int = 1) -> None:
    """Serve until SIGINT or SIGTERM; port 0 takes a free one.

    When requests can be sent, prints one line: `elepay simulator on http://HOST:PORT  profile=NAME seed=N`. `profile`
    is a bundled profile's name or the path of a TOML file; raises `ProfileError` if it cannot be used, and `ValueError`
    for a host that is neither the loopback nor EVERYWHERE.
    """
    if host not in ("127.0.0.1", "localhost", "::1", EVERYWHERE):
        raise ValueError(f"the simulator serves the loopback only, or {EVERYWHERE} inside of a container, not {host}")
    api = Api(load_profile(profile), seed)

    def ready(chosen_port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        print(f"elepay simulator on http://{shown}:{chosen_port}  profile={profile} seed={seed}", flush=True)  # noqa: T201 - the contract with whoever started it

    config = uvicorn.Config(
        api,
        host=host,
        port=port,
        http=FaultyProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
        backlog=BACKLOG,
    )
    server = SimulatorServer(config, ready)
    api.control = ControlRoom(api, profile, server.go_offline).app()
    server.run()
