"""Nights in which Redis forgets, dies, or stands still: only a doorbell, but without its limit nothing is sent."""

from __future__ import annotations

import pytest
from conftest import Night
from factories import Command
from machines import Started, Valkey, pause


def under_way(night: Night, valkey: Valkey, **settings: object) -> tuple[Command, Started]:
    """A fleet that has begun to send."""
    night.simulator.control(latency_ms=20)
    command = night.machine(REDIS_URL=valkey.url, ELEPAY_REQUESTS_PER_SECOND=40, **settings)
    night.fleet(command)
    started = night.run(command, night.file(), "--no-workers")
    night.until_asked(60)
    return command, started


@pytest.mark.representative
def test_a_redis_emptied_in_mid_run_loses_no_row(night: Night, valkey: Valkey) -> None:
    command, started = under_way(night, valkey)
    for _ in range(3):
        valkey.flush()
        pause(0.7)
    night.judge(command, started.json())


def test_a_redis_that_restarts_empty_loses_no_row(night: Night, valkey: Valkey, postgres_url: str) -> None:
    command, started = under_way(night, valkey, LEDGER_URL=postgres_url)
    valkey.kill()
    valkey.start()
    night.judge(command, started.json())


@pytest.mark.parametrize("how", ["gone", "frozen"])
def test_without_redis_nothing_is_sent_and_afterwards_it_goes_on(night: Night, valkey: Valkey, how: str) -> None:
    command, started = under_way(night, valkey)
    valkey.kill() if how == "gone" else valkey.freeze()
    assert night.until_quiet(10) < 300
    valkey.start() if how == "gone" else valkey.thaw()
    night.judge(command, started.json(90))


@pytest.mark.timeout(400)
def test_a_redis_gone_for_two_minutes_is_waited_for(night: Night, valkey: Valkey, postgres_url: str) -> None:
    command, started = under_way(night, valkey, LEDGER_URL=postgres_url)
    valkey.kill()
    assert night.until_quiet(120) < 300
    assert all(one.alive for one in night.started), "nobody gives up"
    valkey.start()
    night.judge(command, started.json(120))


def test_the_private_server_of_a_run_emptied_in_mid_run_loses_no_row(night: Night) -> None:
    from redis import Redis

    night.simulator.control(latency_ms=20)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=60)
    started = night.run(command, night.file())
    night.until_asked(60)
    folder = (command.home / "valkey.pid").read_text().splitlines()[2]
    client = Redis(unix_socket_path=f"{folder}/socket")
    client.flushall()
    client.close()
    night.judge(command, started.json())
