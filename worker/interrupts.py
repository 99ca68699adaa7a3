"""Ctrl-C and SIGTERM, which are obeyed whatever hangs."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

from tasks.error_texts import Sentence
from worker.failures import line_of_end, spoken_language

#: A signal is taken notice of within so long; else something hangs, and the process is ended.
NOTICE_SECONDS = 4.0
#: Exit code of a process that is ended so, as of every command that was interrupted.
STOPPED = 3

_HANGS = Sentence(
    "asked to end, but something does not answer, so it ends at once. Nothing is lost: the same command goes on"
    " where it stopped."
)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Ctrl-C (and SIGTERM): raises KeyboardInterrupt, or is counted where the work must come to an orderly stop.

    Of those counted, the first asks for an orderly stop, the second for an immediate one. If the first is not taken
    notice of (`count` is not read, the exception does not lead out of the program) within NOTICE_SECONDS, or if the
    process has not ended so long after the second, then something hangs that nobody has thought of, and the process is
    ended as by `kill -9`, of which nothing is lost or doubled.
    """

    def __init__(self, on_hang: Callable[[], None] | None = None) -> None:
        self._count = self._noticed = 0
        self.raises = True
        self._on_hang = on_hang or partial(_end, _line_of_end())  # what is said then is there before anything hangs

    @property
    def count(self) -> int:
        """How many came so far; whoever reads it has taken notice of them."""
        self._noticed = self._count
        return self._count

    @property
    def any_came(self) -> bool:
        """Whether any came, for one of several threads: that it sees them does not mean that the others will end."""
        return self._count > 0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Only count inside of the block."""
        self.raises = False
        try:
            yield
        finally:
            self.raises = True

    def __enter__(self) -> Interrupts:
        self._awake, self._wakes = os.pipe()
        os.set_blocking(self._wakes, False)
        self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        self._fd_before = signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        threading.Thread(target=self._see_that_it_ends, args=(self._awake,), name="interrupts", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._wakes)  # the thread ends, and closes the other end

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self.raises:
            raise KeyboardInterrupt

    def _see_that_it_ends(self, awake: int) -> None:
        """Wait for signals, which the interpreter writes here at once, whatever its main thread is doing."""
        came, ends = 0, float("inf")
        while True:
            if select.select([awake], [], [], min(max(0.0, ends - time.monotonic()), 3600.0))[0]:
                numbers = os.read(awake, 64)
                if not numbers:
                    os.close(awake)
                    return
                for number in numbers:
                    if number in _SIGNALS:
                        came += 1
                        if came <= 2:
                            ends = time.monotonic() + NOTICE_SECONDS
            elif came == 1 and self._noticed:
                ends = float("inf")
            elif time.monotonic() >= ends:
                self._on_hang()
                return


def _end(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        os.write(2, f"\n{line}\n".encode())
    os._exit(STOPPED)


def _line_of_end() -> str:
    lang = spoken_language()
    return line_of_end(_HANGS.in_language(lang), lang)
