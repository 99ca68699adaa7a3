"""Every example in a command's help is a command line that is understood, and does what it is there for."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from factories import Command, Simulator, write_csv
from help_page import commands_below, examples_of, root_command
from shell_blocks import understand

EXAMPLES = [example for _, command in commands_below(root_command()) for example in examples_of(command)[1]]
SERVES = "serves until it is stopped; tests of its own start it"
REHEARSAL = "rehearses for half a minute; tests/integration/test_rehearse.py does it"
#: What is run, in this order, with its exit code.
RUN = {
    "onboard check customers.csv": 0,
    "onboard check --report checked customers.csv": 0,
    "onboard check --offline --json customers.csv": 0,
    "onboard run customers.csv": 1,  # elepay refuses its rows
    "onboard open": 1,
    "onboard open 12": 1,
    "onboard open --csv open.csv": 1,
    "onboard show 12 301": 0,
    "onboard find cus_0123": 0,
    "onboard dismiss 12 301 305 --reason 'the customer has left'": 0,
    "onboard retry 12": 0,  # elepay refuses no more
    "onboard find src_0123": 0,
    "onboard report 12": 0,
    "onboard report follow-up --days 3": 0,
    "onboard run --json customers.csv": 0,
    "onboard resolve": 1,  # of an unclear row; elepay has its source. Of another one, for --absent, it has none
    "onboard resolve 12 301 --created src_01": 0,
    "onboard resolve 12 301 --absent": 0,
}
PASSWORD = "asks for a password; tests/integration/console/test_safety_command.py does it"
#: What is not run, with the reason.
NOT_RUN = {
    "onboard console add-user hana.suzuki --role approver": PASSWORD,
    "onboard console set-role hana.suzuki operator": PASSWORD,
    "onboard console": SERVES,
    "onboard console --port 9000": SERVES,
    "onboard watch": SERVES,
    "onboard watch --no-workers": SERVES,
    "onboard watch --once /srv/drop": "takes a folder of the machine; tests of the watcher do it in one of theirs",
    "onboard simulator --port 8130 --profile rough_night --seed 7": SERVES,
    "onboard rehearse customers.csv": REHEARSAL,
    "onboard rehearse --profile clean --lang ja customers.csv": REHEARSAL,
    "onboard demo --lang ja": REHEARSAL,
    "REDIS_URL=redis://cache/0 onboard run --no-workers customers.csv": "needs workers of a fleet, and its Redis",
}


def words_of(example: str) -> list[str]:
    """Return what stands behind `onboard`, without the settings before it."""
    words = shlex.split(example)
    return words[words.index("onboard") + 1 :]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_understood(example: str) -> None:
    understand(words_of(example))


@pytest.mark.parametrize("words", ["run --nonsense a.csv", "run", "show 12 line", "console --port 70000", "dance"])
def test_what_is_wrong_is_not_understood(words: str) -> None:
    with pytest.raises(Exception, match=r".+"):
        understand(words.split())


def test_examples_are_run_or_say_why_not() -> None:
    assert set(NOT_RUN) <= set(EXAMPLES)
    assert set(RUN) == set(EXAMPLES) - set(NOT_RUN)
    assert len(RUN) > 15


def test_examples_do_what_they_are_there_for(tmp_path: Path, reset_simulator: Simulator) -> None:
    onboard = Command(tmp_path, reset_simulator, ONBOARD_LOOK_UPS=1)
    write_csv(tmp_path / "customers.csv", 4)
    put_in = {"12": "1", "301": "2", "305": "3", "cus_0123": "cus_000001"}
    for example, code in RUN.items():
        prepare(example, onboard, reset_simulator, put_in)
        done = onboard(*(put_in.get(word, word) for word in words_of(example)))
        assert done.returncode == code, f"{example}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


def prepare(example: str, onboard: Command, simulator: Simulator, put_in: dict[str, str]) -> None:
    """Let elepay be as an example wants it, and put numbers of today in place of the example's."""
    if example == "onboard run customers.csv":
        simulator.control(refuse={"U003005": 1.0})
    elif example.startswith("onboard retry"):
        simulator.control(refuse={})
    elif example == "onboard find src_0123":
        put_in["src_0123"] = str(simulator.sources()[0]["id"])
    elif example == "onboard resolve":
        put_in["12"] = unclear_row(onboard, simulator, "commit_then_drop_connection")
        put_in["src_01"] = next(str(each["id"]) for each in simulator.sources() if each["customerId"] == "cus_lost1")
    elif example.endswith("--absent"):
        put_in["12"] = unclear_row(onboard, simulator, "drop_before_commit")


def unclear_row(onboard: Command, simulator: Simulator, fault: str) -> str:
    """Return the number of a batch whose one row, in line 2, waits for a person."""
    simulator.control(**{fault: 1.0}, list_500=1.0, max_faults_per_key=1000)
    file = onboard.folder / f"{fault}.csv"
    customer = "cus_lost1" if fault.startswith("commit") else "cus_never1"
    file.write_text(f"customer_id,payment_method,resource\n{customer},creditcard,ios\n", "utf-8")
    said = onboard.json("run", file)
    simulator.control(**{fault: 0.0}, list_500=0.0)
    assert said["books"]["unclear"] == 1
    return str(said["batch"])
