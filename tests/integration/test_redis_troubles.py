"""A Redis that is there and of no use: it is waited for, or refused with a sentence."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from factories import Command, Simulator, wait_until, write_csv
from proxy import Proxy
from redis import Redis
from tls import certificate

from tasks.errors import RateLimitUnavailable, SettingsError
from tasks.send.rate_limit import RateLimit, connect, require_writable
from tasks.settings import load_settings


@pytest.fixture
def admin(redis_url: str) -> Iterator[Redis]:
    """The connection of whoever looks after Redis."""
    client = Redis.from_url(redis_url, decode_responses=True)
    client.ping()
    yield client
    client.close()


def cannot_save(admin: Redis) -> None:
    (Path(admin.config_get("dir")["dir"]) / "dump.rdb").mkdir(exist_ok=True)  # the new file cannot take its place
    admin.config_set("save", "1 1")
    admin.bgsave()
    wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", 20, "a save that failed")


def can_save(admin: Redis) -> None:
    (Path(admin.config_get("dir")["dir"]) / "dump.rdb").rmdir()
    admin.config_set("save", "")
    admin.bgsave()
    wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "ok", 20, "a save that went well")


#: What is wrong -> how it begins, how it ends, and a word of what is said.
TROUBLES: dict[str, tuple[Callable[[Redis], object], Callable[[Redis], object], str]] = {
    "a replica": (lambda admin: admin.replicaof("127.0.0.1", 1), lambda admin: admin.replicaof("NO", "ONE"), "replica"),
    "no memory": (
        lambda admin: admin.config_set("maxmemory", "1"),
        lambda admin: admin.config_set("maxmemory", "0"),
        "maxmemory",
    ),
    "no disk": (cannot_save, can_save, "cannot save"),
    "too many clients": (
        lambda admin: (admin.config_set("maxclients", "1"), admin.client_kill_filter(_type="normal", skipme=True)),
        lambda admin: admin.config_set("maxclients", "1000"),
        "maxclients|ConnectionError",  # which, is a race that the server makes
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_sentence_says_what_is_wrong_and_what_to_do(redis_url: str, admin: Redis, trouble: str) -> None:
    begin, end, word = TROUBLES[trouble]
    limiter = RateLimit(connect(redis_url), 100)
    assert limiter.reserve(1).places == 1
    begin(admin)
    with pytest.raises(RateLimitUnavailable):
        limiter.reserve(1)  # too many clients: the connection that is there is closed
    with pytest.raises(RateLimitUnavailable, match=word):
        limiter.current() if trouble != "no memory" else limiter.reserve(1)
    with pytest.raises(RateLimitUnavailable, match=word):
        require_writable(redis_url)
    end(admin)
    wait_until(lambda: takes(limiter), 10, "the end of it")


def takes(limiter: RateLimit) -> bool:
    try:
        return limiter.reserve(1).places == 1
    except RateLimitUnavailable:
        return False


@pytest.mark.resilience
def test_a_run_waits_for_the_end_of_each_trouble(
    tmp_path: Path, simulator: Simulator, redis_url: str, admin: Redis
) -> None:
    command = Command(tmp_path, simulator, REDIS_URL=redis_url, ELEPAY_REQUESTS_PER_SECOND=25)
    command.json("status")
    run = command.start("run", "--json", "--workers", 1, write_csv(tmp_path / "a.csv", 250))
    for begin, end, _ in TROUBLES.values():
        before = simulator.statistics()["created"]
        wait_until(lambda: simulator.statistics()["created"] > before + 10, 60, "some rows")  # noqa: B023 - at once
        begin(admin)
        time.sleep(1.0)
        end(admin)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert '"created": 250' in out, out
    assert "Traceback" not in err


# ------------------------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:pa#ss@127.0.0.1:6379/0", "%23"),
        ("redis://user:pa#ss@127.0.0.1/0", "%23"),
        ("redis://:pa/ss@127.0.0.1:6379/0", "%2F"),
        ("redis://127.0.0.1:secret/0", "port"),
        ("redis://:pass@127.0.0.1:6379/secret", "number of a database"),
        ("http://:pass@127.0.0.1", "redis://"),
        ("sentinel://:pass@127.0.0.1", "Sentinel"),
        ("127.0.0.1:6379", "redis://"),
        ("redis://", "names no host"),
        ("unix://", "unix:///PATH"),
        ("redis://127.0.0.1/0?socket_timeout=pass", "unknown option 'socket_timeout'"),
        ("rediss://127.0.0.1/0?ssl_ca_certs=/nowhere/ca.pem", "there is no file /nowhere/ca.pem"),
        ("rediss://127.0.0.1/0?db=3", "unknown option 'db'"),
    ],
)
def test_an_address_that_will_not_do_is_refused_and_no_part_of_a_password_is_printed(
    tmp_path: Path, url: str, says: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"REDIS_URL": url, "ONBOARD_HOME": str(tmp_path)}, folder=tmp_path)
    assert "REDIS_URL" in str(refused.value)
    assert says in str(refused.value)
    for part in ("pa#", "pa/", "ss@", "pass@", "secret"):
        assert part not in str(refused.value)


def test_tls_with_an_own_ca_and_a_socket_file_with_a_database_work_everywhere(
    tmp_path: Path, simulator: Simulator, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """For rate limit, producer, consumer and doctor alike."""
    folder = certificate(tmp_path_factory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    with Proxy(redis_url.removeprefix("unix://"), context) as redis:
        tls = f"rediss://localhost:{redis.port}/0"
        for number, url in enumerate((f"{tls}?ssl_ca_certs={folder / 'cert'}", f"{redis_url}?db=3")):
            command = Command(tmp_path, simulator, REDIS_URL=url)
            said = command.json("run", "--workers", 1, write_csv(tmp_path / f"{number}.csv", 20, prefix=f"{number}_"))
            assert (said["exit"], said["books"]["created"]) == (0, 20), said["stderr"]
            assert command.json("doctor")["exit"] == 0
        said = Command(tmp_path, simulator, REDIS_URL=tls).json("doctor")
        (finding,) = [one for one in said["findings"] if one["subject"] == "redis"]
        assert "certificate is not trusted" in finding["says"]
