"""What is measured: a function a scenario, from a plan to a section of the results."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.contestants import (
    AIOHTTP,
    CELERY,
    CELERY_THREADS,
    DRAMATIQ,
    OURS,
    PANDAS,
    PEERS,
    Contestant,
    Run,
    as_users_run_it,
    clean_file,
    last_source,
    ours,
)
from benchmarks.results import Bar, Section, contest
from benchmarks.throttling import seconds_until_back
from benchmarks.watching import Peaks
from tests.factories import Simulator, wait_until, write_csv
from tests.postgres import new_database, postgres_server

LIMITS = (100, 500)
LIMIT_SECONDS = 20
SMALL_FILES, SMALL_ROWS = 200, 50
MILLION = 1_000_000


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    folder: Path  #: for files
    rounds: int = 3
    share: float = 1.0  #: of the rows

    def rows(self, rows: int) -> int:
        """Return so many rows, or the share of them."""
        return max(20, int(rows * self.share))


@dataclass(frozen=True)
class Contest:
    """Ours and peers on the same file in turns; the first contestant is ours, and each has its number of rows."""

    title: str
    latency_ms: int
    contestants: Mapping[str, tuple[Contestant, int]]
    bars: Mapping[str, float] = field(default_factory=dict)
    most_processor_ms: float | None = None
    note: str = ""

    def __call__(self, plan: Plan) -> Section:
        """Run the rounds."""
        runs: dict[str, list[Run]] = {name: [] for name in self.contestants}
        for _ in range(plan.rounds):
            for name, (contestant, rows) in self.contestants.items():
                file = clean_file(plan.folder, plan.rows(rows))
                with Simulator(latency_ms=self.latency_ms) as simulator:
                    runs[name].append(contestant(file, plan.rows(rows), simulator))
                say(f"{self.title}: {name}: {runs[name][-1].pace:,.0f} rows/s")
        return contest(self.title, runs, bars=self.bars, most_processor_ms=self.most_processor_ms, note=self.note)


def say(what: str) -> None:
    """Tell whoever waits."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)


def against_all(
    latency_ms: int, rows: Mapping[str, int], bars: Mapping[str, float], most_processor_ms: float | None = None
) -> Contest:
    """Return the contest of ours with every peer; whoever is slow has fewer rows."""
    contestants = {OURS: ours(), **PEERS}
    return Contest(
        f"{latency_ms} ms, no limit",
        latency_ms,
        {name: (contestant, rows[name]) for name, contestant in contestants.items()},
        bars,
        most_processor_ms,
        "A queue has fewer rows, because it is slow and its time begins with its first message.",
    )


def on_postgres(plan: Plan) -> Section:
    """Ours with PostgreSQL as its ledger, on the same machine, beside the threads."""
    with postgres_server() as server:

        def run(file: Path, rows: int, simulator: Simulator) -> Run:
            with new_database(server) as url:
                return ours(LEDGER_URL=url)(file, rows, simulator)

        return Contest(
            "50 ms, ledger on PostgreSQL",
            50,
            {OURS: (run, 20_000), PANDAS: (PEERS[PANDAS], 20_000)},
            bars={PANDAS: 2.3},
            note="The processor time is without PostgreSQL's own.",
        )(plan)


def under_limits(plan: Plan) -> Section:
    """How much of a limit is used from the first source to the last, and the worst sliding second."""
    lines, bars = [], []
    for limit in LIMITS:
        shares, seconds = zip(*(_under(limit, plan) for _ in range(plan.rounds)), strict=True)
        share, worst = median(shares), max(seconds)
        lines.append([f"{limit}/s", f"{share:.2%}", f"{worst} ({worst / limit - 1:+.1%})"])
        bars += [
            Bar(f"limit {limit}/s: used", share * 100, 99, " %"),
            Bar(f"limit {limit}/s: worst sliding second", worst, limit * 1.02, at_least=False),
        ]
    note = f"{LIMIT_SECONDS} s at 50 ms; the median of the shares, the worst second of all. Rounds: {plan.rounds}."
    return Section("A limit, used and kept", ["limit", "used", "worst sliding second"], lines, note, bars)


def _under(limit: int, plan: Plan) -> tuple[float, int]:
    rows = plan.rows(limit * LIMIT_SECONDS)
    with tempfile.TemporaryDirectory() as folder, Simulator(latency_ms=50) as simulator:
        command = as_users_run_it(Path(folder), simulator, ELEPAY_REQUESTS_PER_SECOND=limit)
        command.json("run", clean_file(plan.folder, rows), timeout=300)
        took = last_source(simulator, rows) - simulator.statistics()["first_create_at"]
        share, worst = (rows - 1) / took / limit, simulator.statistics()["worst_second_creates"]
        say(f"limit {limit}/s: {share:.2%} used, worst second {worst}")
        return share, worst


def after_throttling(plan: Plan) -> Section:
    """How long a run needs to be back at its limit when elepay has throttled it for some seconds."""
    lines = []
    for limit in LIMITS:
        back = seconds_until_back(limit, plan.folder)
        say(f"limit {limit}/s: back after {back.seconds:.1f} s")
        lines.append([f"{limit}/s", str(back.throttled), str(back.slowest_second), f"{back.seconds:.1f} s"])
    return Section(
        "After elepay has throttled",
        ["limit", "throttled answers", "slowest second", "back at 95 %"],
        lines,
        'Half of the answers within 4 s are "too many requests"; the time is from the last of them to the end of the'
        " first second at 95 % of the limit. One round.",
    )


def small_files(plan: Plan) -> Section:
    """Many small files, dropped at once into the folder of `onboard watch`: until each one's reports."""
    limit, files = 500, max(2, int(SMALL_FILES * plan.share))
    with tempfile.TemporaryDirectory() as name, Simulator(latency_ms=50) as simulator:
        folder = Path(name)
        inbox, outbox = folder / "drop" / "inbox", folder / "drop" / "outbox"
        command = as_users_run_it(folder, simulator, ELEPAY_REQUESTS_PER_SECOND=limit)
        watcher = command.start("watch", folder / "drop", "--json")
        said = threading.Thread(target=watcher.communicate)  # it says a line or two about each file
        said.start()
        try:
            wait_until(outbox.exists, 30, "the start of the watcher")
            time.sleep(2)  # its workers start, too
            started, first = time.monotonic(), 0.0
            for number in range(files):
                _small_file(folder, number).rename(inbox / f"{number:03d}.csv")
                (inbox / f"{number:03d}.csv.done").touch()
            while (reported := len(list(outbox.iterdir()))) < files:
                assert time.monotonic() - started < 600, f"{reported} of {files} files have reports"
                first = first or (time.monotonic() - started if reported else 0.0)
                time.sleep(0.02)
            last = time.monotonic() - started
            last_source(simulator, files * SMALL_ROWS)
        finally:
            watcher.send_signal(signal.SIGTERM)
            said.join(120)
    ideal = files * SMALL_ROWS / limit
    say(f"{files} small files: first report {first:.1f} s, last {last:.1f} s, ideal {ideal:.1f} s")
    return Section(
        "Many small files",
        ["files", "rows of each", "first report", "last report", "rows/limit"],
        [[str(files), str(SMALL_ROWS), f"{first:.1f} s", f"{last:.1f} s", f"{ideal:.1f} s"]],
        f"Dropped at once, each with a `.done` beside it, where `onboard watch` is waiting; limit {limit}/s, 50 ms."
        " One round.",
        [
            Bar("small files: first report", first, 2, " s", at_least=False),
            Bar("small files: last report, times rows/limit", last / ideal, 1.2, "x", at_least=False),
        ],
    )


def _small_file(folder: Path, number: int) -> Path:
    return write_csv(folder / f"{number:03d}.csv", SMALL_ROWS, prefix=f"cus_{number:03d}_")


def start_up(plan: Plan) -> Section:
    """How long a command takes that has little to do."""
    with tempfile.TemporaryDirectory() as folder, Simulator() as simulator:
        command = as_users_run_it(Path(folder), simulator)
        ten = clean_file(plan.folder, 10)
        times = 3 * plan.rounds
        helps = median(_seconds(lambda: command("--help")) for _ in range(times))
        checks = median(_seconds(lambda: command("check", ten)) for _ in range(times))
    say(f"onboard --help {helps:.2f} s, check {checks:.2f} s")
    return Section(
        "Start-up",
        ["command", "seconds"],
        [["`onboard --help`", f"{helps:.2f}"], ["`onboard check`, 10 rows", f"{checks:.2f}"]],
        f"Medians of {times}.",
        [Bar("`onboard --help`", helps, 0.4, " s", at_least=False)],
    )


def _seconds(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def million(plan: Plan) -> Section:
    """A million rows from the file to the reports, without latency: time, memory, disk."""
    rows = plan.rows(MILLION)
    with tempfile.TemporaryDirectory() as folder, Simulator(remember_bodies=False) as simulator:
        command = as_users_run_it(Path(folder), simulator)
        started = time.time()
        process = command.start("run", clean_file(plan.folder, rows), "--json")
        with Peaks(process.pid, command.home).seen() as peaks:
            _, said = process.communicate(timeout=7200)
        whole = time.time() - started
        assert process.returncode == 0, said
        sent = last_source(simulator, rows) - started
        ledger = sum(path.stat().st_size for path in command.home.glob("ledger.db*"))
    say(f"{rows:,} rows in {whole:,.0f} s; {peaks.megabytes}, Redis {peaks.redis_megabytes:.1f} MB")
    lines = [
        ["rows/s to the last source", f"{rows / sent:,.0f}"],
        ["rows/s to the end of the reports", f"{rows / whole:,.0f}"],
        *([f"peak of {name}", f"{megabytes:,.0f} MiB"] for name, megabytes in peaks.megabytes.items()),
        ["peak of the data in Redis", f"{peaks.redis_megabytes:.1f} MB"],
        ["ledger", f"{ledger / 1e6:,.0f} MB, {ledger / rows:,.0f} bytes a row"],
    ]
    return Section(
        f"{rows:,} rows, end to end, no latency",
        ["", ""],
        lines,
        "A peak is VmHWM, of several processes of one kind the largest. One round.",
        [
            Bar("a million rows: largest process", max(peaks.megabytes.values()), 400, " MiB", at_least=False),
            Bar("a million rows: Redis", peaks.redis_megabytes, 20, " MB", at_least=False),
            Bar("a million rows: ledger a row", ledger / rows, 500, " bytes", at_least=False),
        ],
    )


#: In the order of the page; ONLY_ASKED_FOR takes longer than all others together.
SCENARIOS: dict[str, Callable[[Plan], Section]] = {
    "latency-50": against_all(
        50,
        {OURS: 20_000, PANDAS: 20_000, AIOHTTP: 20_000, CELERY: 2_000, CELERY_THREADS: 4_000, DRAMATIQ: 4_000},
        bars={PANDAS: 3, CELERY: 12, CELERY_THREADS: 6, AIOHTTP: 0.8},
        most_processor_ms=0.6,
    ),
    "latency-0": against_all(
        0,
        {OURS: 20_000, PANDAS: 20_000, AIOHTTP: 20_000, CELERY: 4_000, CELERY_THREADS: 4_000, DRAMATIQ: 4_000},
        bars={PANDAS: 3, CELERY: 4},
    ),
    "latency-200": against_all(
        200,
        {OURS: 20_000, PANDAS: 10_000, AIOHTTP: 20_000, CELERY: 1_000, CELERY_THREADS: 4_000, DRAMATIQ: 1_000},
        bars={},
    ),
    "postgres": on_postgres,
    "processes": Contest(
        "Two worker processes and one, 0 ms",
        0,
        {"two processes": (ours("--workers", 2), 20_000), "one process": (ours("--workers", 1), 20_000)},
        bars={"one process": 1.5},
    ),
    "limits": under_limits,
    "throttling": after_throttling,
    "small-files": small_files,
    "start-up": start_up,
    "million": million,
}
ONLY_ASKED_FOR = "million"
