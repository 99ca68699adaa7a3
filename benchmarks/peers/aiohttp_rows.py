"""asyncio and aiohttp, at most 200 requests under way; nothing is tried again.

python -m benchmarks.peers.aiohttp_rows FILE
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp

from benchmarks.peers.rows import HEADERS, TIMEOUT_SECONDS, address, body, read

UNDER_WAY = 200


async def create_source(session: aiohttp.ClientSession, limit: asyncio.Semaphore, row: dict[str, str]) -> str:
    """Create one source; return its id."""
    async with limit, session.post(address(row), json=body(row)) as response:
        response.raise_for_status()
        return str((await response.json())["id"])


async def send(path: str) -> list[str]:
    """Send every row, return the ids."""
    limit = asyncio.Semaphore(UNDER_WAY)
    async with aiohttp.ClientSession(
        headers=HEADERS,
        connector=aiohttp.TCPConnector(limit=UNDER_WAY),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
    ) as session:
        return await asyncio.gather(*(create_source(session, limit, row) for row in read(path)))


if __name__ == "__main__":
    print(f"{len(asyncio.run(send(sys.argv[1])))} created")
