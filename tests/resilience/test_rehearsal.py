"""The rehearsal: one night of a fleet from end to end, and the next morning.

Two workers, a watcher, beat, the simulator, a webhook and a command. Five files arrive, a worker and the watcher are
killed, elepay is under maintenance for a while. In the morning folders, reports, counts, messages and metrics are what
docs/run/drop-folder.md says, and nothing that was written outside of files and reports names a customer.
"""

from __future__ import annotations

import csv
import io
import json
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Night
from factories import KEY, Command, wait_until
from judge import at_the_simulator, faults_of
from listeners import Webhook, free_port
from machines import Started, Valkey, frozen, kill, pause
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine, text
from test_watcher import Drop, logged, read

from tasks.models import RowState

TOKEN = "tokenthatnobodyshallsee456"
#: Each is in the files, and nowhere else.
PERSONAL = ("cus_meibo", "Hanako", "花子", "rose-garden", "not-a-method")
SETTINGS = {
    "ELEPAY_REQUESTS_PER_SECOND": 150,
    "ONBOARD_IN_FLIGHT": 5,
    "ONBOARD_SLICE_ROWS": 20,
    "ONBOARD_SETTLE_SECONDS": 3,
    "ONBOARD_SCAN_SECONDS": 0.5,
    "ONBOARD_FOLLOW_UP_HOURS": 0.002,
    "ONBOARD_FOLLOW_UP_SHARE": 0.5,
    "ONBOARD_LOG_LEVEL": "DEBUG",
}
TITLES = ("customer_id", "payment_method", "resource", "description", "metadata.plan")
JAPANESE = ("顧客番号", "決済方法", "利用環境", "説明", "メタデータ.plan")
#: elepay closes after so many requests until the test opens it again: no batch is done before.
CLOSES_AFTER = 100


def records(series: str, first: int, last: int) -> list[tuple[str, ...]]:
    """Valid records of customers of one series."""
    return [
        (f"cus_meibo_{series}_{number:04d}", "creditcard", "ios", f"Hanako 花子 {number}", "rose-garden")
        for number in range(first, last + 1)
    ]


#: Records that cannot be sent, each for another reason; what is wrong with them is personal data as well.
INVALID: list[tuple[str, ...]] = [
    ("", "creditcard", "ios", "Hanako", "rose-garden"),
    ("cus_meibo_" * 5, "creditcard", "ios", "Hanako", "rose-garden"),
    ("cus_meibo_x", "not-a-method", "ios", "Hanako", "rose-garden"),
    ("cus_meibo_x", "creditcard", "ios", "Hanako" * 50, "rose-garden"),
    ("cus_meibo_x", "creditcard", "ios", "Hanako", "rose-garden", "one too many"),
]


def command_hook(folder: Path) -> str:
    """A command that keeps each message in a file of its own, whole or not at all."""
    script = folder / "hook.sh"
    script.write_text('#!/bin/sh\nfile=$(mktemp)\ncat > "$file"\nmv "$file" "$file.json"\n', encoding="utf-8")
    script.chmod(0o755)
    (folder / "messages").mkdir()
    return f"env TMPDIR={folder / 'messages'} {script}"


def received_by_command(night: Night) -> list[dict[str, Any]]:
    return [read(path) for path in sorted((night.folder / "messages").glob("*.json"))]


def csv_of(lines: list[tuple[str, ...]], titles: tuple[str, ...] = TITLES, encoding: str = "utf-8") -> bytes:
    target = io.StringIO()
    csv.writer(target).writerows([titles, *lines])
    return target.getvalue().encode(encoding)


MEMBERS = csv_of([*records("a", 1, 180), *records("a", 1, 4), *INVALID])
KAIIN = csv_of([*records("b", 1, 120), *records("b", 7, 8), *INVALID[:3]], JAPANESE, "cp932")
MEMBERS_TOO = csv_of([*INVALID[3:], *records("a", 141, 180), *records("c", 1, 60)])
BROKEN = csv_of([(name, "rose-garden") for name, *_ in records("d", 1, 20)], ("customer_id", "plan"))
#: The batches of the night -> their counts.
BOOKS: dict[str, dict[str, int]] = {
    "members": {"records": 189, "created": 180, "skipped": 4, "invalid": 5},
    "kaiin": {"records": 125, "created": 120, "skipped": 2, "invalid": 3},
    "members too": {"records": 102, "created": 60, "skipped": 40, "invalid": 2},
}
#: The batches of the night -> the names of their reports in the outbox, after the number.
FOLDERS = {"members": "members", "kaiin": "kaiin", "members too": "members"}
#: The notifications, each delivered once through each channel.
EVENTS = {"finished": 3, "rejected": 1, "repeated": 1}
SOURCES = 360
CLOSED_AND_OPEN = ("under maintenance, so nothing is sent", "open again")


@dataclass
class Fleet:
    """What runs during the night, and the pages that it serves."""

    night: Night
    command: Command
    drop: Drop
    settings: dict[str, Any]
    ports: dict[str, int] = field(default_factory=dict)
    machines: dict[str, Command] = field(default_factory=dict)
    running: dict[str, Started] = field(default_factory=dict)
    pages: list[str] = field(default_factory=list)  #: every page that was requested

    def start(self, name: str, *arguments: object) -> Started:
        """Start a process (again, as a supervisor would), with a port of its own and always the same folder."""
        if name not in self.machines:
            self.ports[name] = free_port()
            machine = self.night.machine(**self.settings, ONBOARD_METRICS_PORT=self.ports[name])
            machine.environment["ONBOARD_HOME"] = self.command.environment["ONBOARD_HOME"]
            self.machines[name] = machine
        self.running[name] = self.night.start(self.machines[name], *arguments)
        return self.running[name]

    def kill(self, name: str) -> None:
        self.running.pop(name).kill()
        self.night.kills += 1

    def get(self, name: str, path: str) -> tuple[int, str]:
        try:
            answer = requests.get(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=10)
        except requests.ConnectionError:
            return 0, ""
        self.pages.append(answer.text)
        return answer.status_code, answer.text

    def is_ready(self, *names: str) -> bool:
        return all(self.get(name, path)[0] == 200 for name in names for path in ("/readyz", "/healthz"))

    def metrics(self, name: str) -> dict[str, float]:
        return {
            sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(self.get(name, "/metrics")[1])
            for sample in family.samples
        }

    def arrive(self, name: str, content: bytes, companion: str = ".done") -> None:
        """Drop a complete file with its companion."""
        (self.drop.root / "upload").write_bytes(content)
        (self.drop.root / "upload").rename(self.drop.inbox / name)
        (self.drop.inbox / (name + companion)).touch()

    def ask(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        """Ask the ledger with plain SQL."""
        engine = create_engine(self.command.ledger_url)
        with engine.connect() as connection:
            rows = [tuple(row) for row in connection.execute(text(query), values)]
        engine.dispose()
        return rows

    def is_sending(self, pid: int) -> bool:
        query = "select count(*) from rows join workers on id = worker where pid = :pid and state = 'sending'"
        return bool(self.ask(query, pid=pid)[0][0])


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as running:
        yield running


@pytest.fixture
def fleet(night: Night, valkey: Valkey, postgres_url: str, webhook: Webhook) -> Fleet:
    drop = Drop(night.folder / "drop")
    settings = {
        **SETTINGS,
        "REDIS_URL": valkey.url,
        "LEDGER_URL": postgres_url,
        "ONBOARD_DROP_FOLDER": drop.root,
        "ONBOARD_NOTIFY_URLS": f"mmost://127.0.0.1:{webhook.port}/{TOKEN}",
        "ONBOARD_NOTIFY_COMMAND": command_hook(night.folder),
        "ONBOARD_NOTIFY_GAP_SECONDS": 1,
    }
    return Fleet(night, night.machine(**settings), drop, settings)


def test_a_night_is_in_the_morning_what_the_documents_say(night: Night, fleet: Fleet, webhook: Webhook) -> None:
    evening(night, fleet)
    small_hours(night, fleet)
    batches = morning(night, fleet, webhook)
    afterwards(night, fleet, batches)
    assert close_down(fleet) == {"beat": 0, "watch": 0, "worker-1": 0, "worker-2": 0}
    nothing_personal_was_written(night, fleet, webhook)
    assert len(received_by_command(night)) == len(webhook.posted) == sum(EVENTS.values()), "and none since"
    assert [entry for started in night.started for entry in logged(started, "unexpected failure")] == []
    night.note(rows=sum(counts["records"] for counts in BOOKS.values()), kills=night.kills)


def evening(night: Night, fleet: Fleet) -> None:
    """Everything starts; a broken file comes, one grows slowly, and elepay will close."""
    night.simulator.control(
        latency_ms=150,
        commit_then_drop_connection=0.03,
        S002000_window={"share": 1.0, "after_creates": CLOSES_AFTER},
    )
    for name in ("worker-1", "worker-2"):
        fleet.start(name, "worker", "--name", name)
    fleet.start("watch", "watch", "--no-workers")
    fleet.start("beat", "beat")
    wait_until(lambda: fleet.is_ready("worker-1", "worker-2", "watch"), 60, "the start")
    fleet.arrive("broken.csv", BROKEN)
    with (fleet.drop.inbox / "members.csv").open("wb") as slow:
        for at in range(0, len(MEMBERS), 300):  # for longer than it takes to settle
            slow.write(MEMBERS[at : at + 300])
            slow.flush()
            pause(0.1)
            assert (fleet.drop.inbox / "members.csv").exists(), "it still grows"
    wait_until(fleet.drop.rejections, 30, "the rejection")


def small_hours(night: Night, fleet: Fleet) -> None:
    """A worker and the watcher are killed, elepay is under maintenance, and files still arrive."""
    night.until_asked(20)
    worker = fleet.running["worker-1"]
    wait_until(lambda: killed_while_sending(fleet, worker.pid), 60, "a worker that is killed while it sends")
    fleet.kill("worker-1")
    fleet.start("worker-1", "worker", "--name", "worker-1")
    wait_until(lambda: night.simulator.statistics()["faults"].get("S002000_window"), 60, "elepay's maintenance")
    fleet.kill("watch")
    assert len(fleet.drop.claims()) == 1, "the batch cannot be done before elepay opens"
    fleet.arrive("kaiin.csv", KAIIN)
    fleet.start("watch", "watch", "--no-workers")
    wait_until(lambda: len(fleet.drop.claims()) == 2, 60, "the file that came while no watcher was there")
    assert logged(fleet.running["watch"], "claim of a watcher that ended taken over")
    fleet.arrive("members.csv", MEMBERS_TOO, ".ready")
    wait_until(lambda: fleet.metrics("watch").get("onboard_batches running") == 3, 60, "three batches that wait")
    wait_until(lambda: fleet.is_ready("worker-1", "worker-2", "watch"), 60, "that all are healthy, and wait")
    assert created_at_most(night, CLOSES_AFTER), "elepay is closed"
    night.simulator.control(S002000_window=0.0, latency_ms=20)
    fleet.arrive("repeat.csv", MEMBERS)
    wait_until(lambda: len(fleet.drop.archived()) == 4, 90, "the end of all files")
    entries = [logged(started, f"elepay is {what}") for started in night.started for what in CLOSED_AND_OPEN]
    assert sum(map(len, entries)) >= 2, "maintenance, and its end"


def killed_while_sending(fleet: Fleet, pid: int) -> bool:
    """Kill a worker if it has rows under way just now."""
    with frozen(pid):
        return fleet.is_sending(pid) and kill(pid)


def created_at_most(night: Night, number: int) -> bool:
    return bool(night.simulator.statistics()["created"] <= number)


def lasting(title: str) -> str:
    """What a title says at any time: of a repeat whose first batch is under way the counts grow between deliveries."""
    before, repeat, _ = title.partition("Same file as before")
    return before + repeat


def morning(night: Night, fleet: Fleet, webhook: Webhook) -> dict[str, int]:
    """Judge folders, counts, sources, messages and metrics; return the batches by their names in BOOKS."""
    wait_until(lambda: len(received_by_command(night)) >= 5 <= len(webhook.posted), 60, "the deliveries")
    batches = folders_are_as_documented(fleet)
    statistics = at_the_simulator(fleet.command, night.simulator, SOURCES)
    night.note(faults=faults_of(statistics))
    messages = received_by_command(night)
    assert Counter(message["event"] for message in messages) == EVENTS
    said = [str(posted["text"]).splitlines()[0] for posted in webhook.posted]
    assert sorted(map(lasting, (message["title"] for message in messages))) == sorted(map(lasting, said))
    (rejected,) = [message for message in messages if message["event"] == "rejected"]
    assert (rejected["file"], rejected["code"]) == ("broken.csv", "missing_column")
    assert rejected["link"] == f"onboard status {rejected['batch']}"
    (repeated,) = [message for message in messages if message["event"] == "repeated"]
    assert (repeated["file"], repeated["batch"]) == ("repeat.csv", batches["members"])
    for name, batch in batches.items():
        status = fleet.command.json("status", batch)
        assert {key: status["books"][key] for key in BOOKS[name]} == BOOKS[name]
        assert status["books"]["balance"]
        (message,) = [each for each in messages if each["event"] == "finished" and each["batch"] == batch]
        summary = read(next(fleet.drop.outbox.glob(f"{batch}-*/summary.json")))
        assert message["verdict"] == summary["verdict"]["text"]
        assert message["books"] == status["books"]
        assert message["link"] == str(fleet.drop.outbox / f"{batch}-{FOLDERS[name]}")
        assert sum(reason["rows"] for reason in message["reasons"]) == message["open"]
    metrics_say_what_the_ledger_says(fleet)
    assert fleet.is_ready("worker-1", "worker-2", "watch")
    return batches


def folders_are_as_documented(fleet: Fleet) -> dict[str, int]:
    drop = fleet.drop
    assert list(drop.inbox.iterdir()) == drop.claims() == []
    assert {path.name for path in drop.root.iterdir()} == {"inbox", "processing", "archive", "rejected", "outbox"}
    assert drop.rejections() == {"broken.csv": "missing_column"}
    archived = {path.parent.parent.name: path for path in drop.archive.glob("*/*/file/*.csv")}
    contents = {"members": MEMBERS, "kaiin": KAIIN, "members too": MEMBERS_TOO}
    batches = {}
    for name, content in contents.items():
        (batch,) = [number for number, path in archived.items() if number.isdigit() and path.read_bytes() == content]
        batches[name] = int(batch)
    again = f"{batches['members']}-again"
    assert {number: path.name for number, path in archived.items()} == {
        str(batches["members"]): "members.csv",
        str(batches["kaiin"]): "kaiin.csv",
        str(batches["members too"]): "members.csv",
        again: "repeat.csv",
    }
    outbox = {folder.name.partition("-again-")[0]: folder for folder in drop.outbox.iterdir()}
    own = {f"{batches[name]}-{stem}": name for name, stem in FOLDERS.items()}
    assert set(outbox) == {*own, f"{batches['members']}-repeat"}
    for folder, name in own.items():
        summary = read(outbox[folder] / "summary.json")
        assert {key: summary["books"][key] for key in BOOKS[name]} == BOOKS[name]
        reports = next(drop.archive.glob(f"*/{batches[name]}/reports"))
        assert {path.name: path.read_bytes() for path in outbox[folder].iterdir()} == {
            path.name: path.read_bytes() for path in reports.iterdir()
        }
    return batches


def metrics_say_what_the_ledger_says(fleet: Fleet) -> None:
    ((finished,),) = fleet.ask("select max(finished_at) from batches where state = 'finished'")
    expected = {
        "onboard_last_finished_timestamp_seconds": finished,
        "onboard_limit_requests_per_second": SETTINGS["ELEPAY_REQUESTS_PER_SECOND"],
        "onboard_undecided_rows": 0,
        "onboard_failing_news": 0,
        **{f"onboard_batches {state}": 0 for state in ("reading", "running", "paused", "halted")},
        **{f"onboard_rows {state}": 0 for state in RowState},
    }
    for name in ("worker-1", "worker-2", "watch"):
        wait_until(lambda name=name: expected.items() <= fleet.metrics(name).items(), 120, f"the numbers of {name}")
    pages = [fleet.metrics(name) for name in ("worker-1", "worker-2")]
    created = sum(page["onboard_requests_total created"] for page in pages)
    assert 0 < created < SOURCES, "those of the worker that was killed are lost"
    assert any(page["onboard_requests_total maintenance"] for page in pages)


def statuses(fleet: Fleet) -> dict[str, int]:
    query = "select source_status, count(*) from rows where state = 'created' group by source_status"
    return {str(status): int(count) for status, count in fleet.ask(query)}


def afterwards(night: Night, fleet: Fleet, batches: Mapping[str, int]) -> None:
    """By day: audits agree, and follow-up finds what customers have done since."""
    for batch in batches.values():
        audit = fleet.command.json("audit", batch)
        assert (audit["exit"], audit["agree"]) == (0, True), audit
    for at, source in enumerate(night.simulator.sources()[:30]):
        night.simulator.post(f"sources/{source['id']}/status", status=("active", "failed", "inactive")[at % 3])
    expected = {"active": 10, "failed": 10, "inactive": 10, "pending": SOURCES - 30}
    wait_until(lambda: fleet.command.json("follow-up") and statuses(fleet) == expected, 60, "the follow-up")
    listed = fleet.command.json("report", "follow-up")
    assert (listed["exit"], listed["by_status"]) == (1, {"failed": 10, "inactive": 10})


def close_down(fleet: Fleet) -> dict[str, int]:
    """Stop everything as a supervisor would; return the exit codes."""
    for started in fleet.running.values():
        started.signal(signal.SIGTERM)
    return {name: started.wait(60) for name, started in fleet.running.items()}


def nothing_personal_was_written(night: Night, fleet: Fleet, webhook: Webhook) -> None:
    """Search whatever was written outside of the dropped files, their copies, and the reports."""
    kept = {"file", "files", "reports", "outbox"}
    written = {
        str(path.relative_to(night.folder)): path.read_bytes().decode(errors="replace")
        for path in night.folder.rglob("*")
        if path.is_file() and not kept & set(path.relative_to(night.folder).parts)
    }
    written["pages"] = "\n".join(fleet.pages)
    written["messages"] = json.dumps(webhook.posted, ensure_ascii=False)
    assert len([name for name in written if name.endswith((".out", ".err"))]) >= 2 * len(night.started)
    assert sum(map(len, written.values())) > 20_000, "there was something to search"
    secrets = (*PERSONAL, KEY, *(source["credential"] for source in credentials(night)))
    hits = {(name, secret) for name, content in written.items() for secret in secrets if secret in content}
    assert hits == set()
    assert {name for name, content in written.items() if TOKEN in content} <= {"messages"}, "the webhook's own address"


def credentials(night: Night) -> list[dict[str, str]]:
    url = f"{night.simulator.url}/_sim/sources?limit=1000&secrets=true"
    sources: list[dict[str, str]] = requests.get(url, timeout=10).json()["sources"]
    return sources
