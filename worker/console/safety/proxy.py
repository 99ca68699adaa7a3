"""What a proxy in front says, of people and of addresses: believed from its address, or through its socket, only."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.requests import HTTPConnection

from tasks.settings import Settings
from worker.console.people import Person
from worker.console.safety.groups import person_of_groups

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


def networks_of(addresses: Iterable[str]) -> Networks:
    """Return addresses and networks as they are compared. Raises ValueError for any other text."""
    return tuple(ipaddress.ip_network(address) for address in addresses)


class NamedProxies:
    """The proxies that the settings name: by their addresses, or by the socket file."""

    def __init__(self, settings: Settings) -> None:
        self._has_socket = bool(settings.console_socket)
        self._networks = networks_of(settings.console_proxies)

    def have_sent(self, connection: HTTPConnection) -> bool:
        """Return whether the other end of the socket is one of them; no header is asked."""
        client = connection.client
        return self._is_named(client.host) if client and client.host else self._has_socket

    def address(self, connection: HTTPConnection) -> str:
        """Return from where a request came, as far as those say who are believed."""
        other_end = connection.client.host if connection.client else ""
        if not self.have_sent(connection):
            return other_end
        hops = ",".join(connection.headers.getlist("x-forwarded-for")).split(",")
        return next((hop for each in reversed(hops) if (hop := each.strip()) and not self._is_named(hop)), other_end)

    def _is_named(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)


class ProxyWord:
    """Who a proxy says that somebody is."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._proxies = NamedProxies(settings)

    async def person(self, connection: HTTPConnection) -> Person | None:
        """Return who asks; None if nobody who is believed says so, or in two ways."""
        settings = self._settings
        if not self._proxies.have_sent(connection):
            return None
        names = connection.headers.getlist(settings.console_name_header)
        groups = connection.headers.getlist(settings.console_groups_header)
        if len(names) != 1 or len(groups) > 1:
            return None
        return person_of_groups(settings, _decoded(names[0]), "".join(map(_decoded, groups)).split(","))


def _decoded(header: str) -> str:
    """Return a header that was sent as UTF-8; Starlette reads Latin-1."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header
