"""A command at a real pseudo-terminal: what it prints, what stands on the screen, what is typed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
import unicodedata

from factories import Command

from tests import warm

_PARTS = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b.|[\r\n\b]|[^\x1b\r\n\b]+", re.DOTALL)


class Display:
    """What stands on a terminal of some width, with all that has scrolled out of it: enough for what rich writes."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._lines: list[list[str]] = [[]]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        """Take what a program writes."""
        for found in _PARTS.finditer(text):
            whole, command = found[0], found[2]
            if command:
                self._control(command, int(found[1]) if found[1].isdigit() else 0)
            elif whole == "\r":
                self._column = 0
            elif whole == "\n":
                self._move_to(self._row + 1)
            elif whole == "\b":
                self._column = max(0, self._column - 1)
            elif whole[0] != "\x1b":
                for character in whole:
                    self._write(character)

    def _control(self, command: str, number: int) -> None:
        if command == "A":
            self._row = max(0, self._row - (number or 1))
        elif command == "B":
            self._move_to(self._row + (number or 1))
        elif command == "K":
            kept = {0: self._lines[self._row][: self._column], 1: self._lines[self._row]}.get(number, [])
            self._lines[self._row] = kept
        elif command == "J":
            if number in (2, 3):
                self._row = 0
                self._lines = [[]]
            else:
                self._lines[self._row] = self._lines[self._row][: self._column]
                del self._lines[self._row + 1 :]
        elif command == "H":
            self._row = self._column = 0

    def _move_to(self, row: int) -> None:
        self._row = row
        while len(self._lines) <= row:
            self._lines.append([])

    def _write(self, character: str) -> None:
        width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if self._column + width > self.columns:
            self._move_to(self._row + 1)
            self._column = 0
        line = self._lines[self._row]
        line += [" "] * (self._column + width - len(line))
        line[self._column : self._column + width] = [character, *[""] * (width - 1)]
        self._column += width

    @property
    def lines(self) -> list[str]:
        """Every line, without blanks at its end."""
        return ["".join(line).rstrip() for line in self._lines]


class Terminal:
    """A command that has a pseudo-terminal for standard input, output and error; ends with the `with` block."""

    def __init__(
        self, command: Command, *words: object, columns: int = 80, lines: int = 24, stderr: int | None = None
    ) -> None:
        self._display = Display(columns)
        self.text = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {
            **{name: value for name, value in command.environment.items() if name not in ("COLUMNS", "LINES")},
            "PYTHONPATH": str(command.source),
            "TERM": "xterm-256color",
        }
        self.process = warm.start(
            "worker.cli",
            *map(str, words),
            environment=environment,
            folder=command.folder,
            terminal=slave,
            stdout=slave,
            stderr=slave if stderr is None else stderr,
        )
        os.close(slave)

    def _read(self, seconds: float) -> bool:
        """Take what is there within so long; return False at the end of the command."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            read = os.read(self._master, 65536).decode("utf-8", "replace")
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.text += read
        self._display.feed(read)
        return bool(read)

    def until(self, wanted: str, seconds: float = 60.0, *, since: str = "") -> None:
        """Read until this was printed, in one piece, behind `since` (which was)."""
        ends = time.monotonic() + seconds
        while wanted not in self.text.partition(since)[2] if since else wanted not in self.text:
            assert time.monotonic() < ends, f"{wanted!r} did not come:\n{self.text}"
            assert self._read(0.2), f"ended without {wanted!r}:\n{self.text}"

    def type(self, keys: str) -> None:
        """Type something."""
        os.write(self._master, keys.encode())

    def end(self, seconds: float = 60.0) -> int:
        """Read to the end of the command; return its exit code."""
        ends = time.monotonic() + seconds
        while self._read(0.2):
            assert time.monotonic() < ends, f"no end:\n{self.text}"
        return self.process.wait(max(1.0, ends - time.monotonic()))

    @property
    def shown(self) -> list[str]:
        """What stands on the screen, line by line, with what has scrolled out of it."""
        return self._display.lines

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


def seen(command: Command, *words: object, columns: int) -> tuple[int, list[str]]:
    """Run a command to its end at a terminal of some width; return exit code and what stands there."""
    with Terminal(command, *words, columns=columns) as terminal:
        return terminal.end(), terminal.shown
