"""Nothing secret stays anywhere: the key, credentials and cardholders' names, after a run full of faults."""

from __future__ import annotations

import base64
import binascii
import io
import re
import socket
import sqlite3
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import requests
from factories import KEY, Command, Simulator, wait_until, write_csv
from redis import Redis
from redis.exceptions import ResponseError

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
#: Every way in which elepay's answers can carry a secret into our hands.
FAULTS = {
    "refuse": {"U003005": 0.1, "U004000": 0.1, "M002003": 0.05},
    "commit_then_drop_connection": 0.1,
    "commit_then_500_S001000": 0.1,
    "html_502_after_commit": 0.05,
    "malformed_201": 0.1,
    "empty_201": 0.05,
    "throttled": 0.05,
    "list_500": 0.1,
    "credential_in_lists": True,
    "credential_on_retrieve": True,
}


class Witness:
    """Hears every command that the broker is given, and reads every key that it holds."""

    def __init__(self, redis_url: str) -> None:
        self.heard = bytearray()
        self._redis = Redis.from_url(redis_url)
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(redis_url.removeprefix("unix://"))
        self._line.sendall(b"MONITOR\r\n")
        assert self._line.recv(5) == b"+OK\r\n"
        self._listening = threading.Thread(target=self._listen)

    def __enter__(self) -> Witness:
        self._listening.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.echo("that was all")
        wait_until(lambda: b"that was all" in self.heard, what="the last command")
        self._line.shutdown(socket.SHUT_RDWR)
        self._listening.join(10)
        self._line.close()
        self._redis.close()

    def _listen(self) -> None:
        while some := self._line.recv(1 << 16):
            self.heard += some

    def keys(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of every key."""
        readers: dict[bytes, Callable[[bytes], object]] = {
            b"string": self._redis.get,
            b"list": lambda key: self._redis.lrange(key, 0, -1),
            b"set": self._redis.smembers,
            b"hash": self._redis.hgetall,
            b"zset": lambda key: self._redis.zrange(key, 0, -1, withscores=True),
            b"none": lambda _: None,  # gone since it was listed
        }
        for key in self._redis.scan_iter("*"):
            with suppress(ResponseError):  # of another type since it was asked for
                yield f"broker key {key!r}", key + repr(readers[self._redis.type(key)](key)).encode()


def places(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file below a folder as it is, and what is inside of ledgers and workbooks."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        content = path.read_bytes()
        yield str(path.relative_to(folder)), content
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                yield from ((f"{path.name}/{name}", archive.read(name)) for name in archive.namelist())
        if content.startswith(b"SQLite format 3"):
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
                    for row in database.execute(f'select * from "{table}"'):
                        yield f"{path.name}: {table}", repr(row).encode()
            database.close()


def found(secrets: set[str], where: str, content: bytes) -> list[str]:
    """Return where a secret stands in a content, plainly or in Base64."""
    texts = [content]
    for run in _BASE64.findall(content):
        for shift in range(4):
            whole = run[shift:].rstrip(b"=")
            texts.append(binascii.a2b_base64(whole[: len(whole) // 4 * 4].translate(bytes.maketrans(b"-_", b"+/"))))
    hay = b"\n".join(texts)
    return [f"{secret} in {where}" for secret in sorted(secrets) if secret.encode() in hay]


def search(secrets: set[str], *everything: Iterator[tuple[str, bytes]]) -> list[str]:
    """Return every secret that stands somewhere; what most secrets share is looked for first, for speed."""
    short = {KEY, "cred_", "TARO YAMADA", base64.b64encode(f"{KEY}:".encode()).decode()}
    hits = []
    for where, content in (each for part in everything for each in part):
        if found(short, where, content):
            hits += found(secrets | short, where, content)
    return hits


def secrets_of(simulator: Simulator) -> set[str]:
    """Every secret that the simulator's answers could show."""
    answer = requests.get(f"{simulator.url}/_sim/sources?secrets=true&limit=100000", timeout=30).json()
    shown = [(each["credential"], each["cardholder"]) for each in answer["sources"]]
    assert all(credential.startswith("cred_") for credential, _ in shown)
    assert all(cardholder.startswith("TARO YAMADA") for _, cardholder in shown)
    return {KEY, *(secret for pair in shown for secret in pair)}


def test_nothing_secret_stays_behind(tmp_path: Path, simulator: Simulator, redis_url: str) -> None:
    simulator.control(**FAULTS)
    onboard = Command(tmp_path, simulator, REDIS_URL=redis_url, ONBOARD_LOG_LEVEL="DEBUG", ONBOARD_LOOK_UPS="2")
    onboard.environment["ONBOARD_BREAKER_ANSWERS"] = "0"
    file = write_csv(tmp_path / "a.csv", 300)
    during: list[tuple[str, bytes]] = []
    with Witness(redis_url) as witness:
        run = onboard.start("run", "--excel-safe", "--json", file)
        try:
            while run.poll() is None and len(during) <= 2000:
                during += witness.keys()
        finally:
            out, err = run.communicate(timeout=120)
        shown = onboard("show", 1, 2)
        status = onboard("status")
        after = list(witness.keys())
    assert run.returncode in (0, 1), err
    heard = bytes(witness.heard)
    assert len(during) > 10
    assert b"LPUSH" in heard.upper(), "the messages passed by"
    secrets = secrets_of(simulator)
    assert len(secrets) > 300
    counted = simulator.statistics()
    assert {"malformed_201", "commit_then_drop_connection"} <= set(counted["faults"])
    assert counted["requests"]["listSources"], "look-ups, which show sources again"
    assert counted["answers"]["U003005"], "refusals, whose provider's error names a person"
    said = [("stdout", out), ("stderr", err), ("show", shown.stdout + shown.stderr), ("status", status.stdout)]
    hits = search(
        secrets,
        places(tmp_path),
        iter([("the broker's commands", heard), *during, *after]),
        ((where, text.encode()) for where, text in said),
    )
    assert not hits


def test_the_search_finds_what_is_planted(tmp_path: Path, simulator: Simulator, redis_url: str) -> None:
    """Else the test above could never fail."""
    onboard = Command(tmp_path, simulator)
    onboard("run", write_csv(tmp_path / "a.csv", 3))
    credential = max(secrets_of(simulator) - {KEY})
    assert not search({credential}, places(tmp_path))
    with sqlite3.connect(onboard.home / "ledger.db") as database:
        database.execute("update rows set request_id = ? where record = 2", [credential])
    database.close()
    (onboard.home / "logs" / "more.log").write_text(f"Authorization: Bearer {KEY}\n", encoding="utf-8")
    with zipfile.ZipFile(onboard.home / "reports" / "1" / "report.xlsx", "a") as workbook:
        workbook.writestr("xl/more.xml", f"<t>{credential}</t>", zipfile.ZIP_DEFLATED)
    redis = Redis.from_url(redis_url)
    with Witness(redis_url) as witness:
        for at in range(3):  # the middle of a Base64 text need not begin where a group of four begins
            message = base64.b64encode(b"x" * at + f'["{credential}"]'.encode()).decode()
            redis.lpush("onboard", f'{{"body": "{message}"}}')
        keys = list(witness.keys())
        redis.delete("onboard")
    redis.close()
    hits = search({credential, KEY}, places(tmp_path), iter([("commands", bytes(witness.heard)), *keys]))
    for where in ("ledger.db", "more.log", "report.xlsx/xl/more.xml", "broker key b'onboard'", "commands"):
        assert any(where in hit for hit in hits), (where, hits)


def test_the_simulator_lists_every_secret_that_its_answers_show(simulator: Simulator) -> None:
    answer = requests.post(
        f"{simulator.url}/customers/cus_1/sources",
        json={"paymentMethod": "creditcard", "resource": "ios"},
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=5,
    ).json()
    assert {answer["credential"], answer["cardInfo"]["name"]} <= secrets_of(simulator)
