"""Standard output and error as pipes: that nobody reads them any more ends no command, and changes no exit code."""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
import sys
from typing import IO, Any, TextIO


class _Pipe(io.FileIO):
    """A pipe; what is written once its reader has gone is dropped."""

    def write(self, content: Any, /) -> int:
        """Write, or drop."""
        try:
            return super().write(content)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(memoryview(content).cast("B"))


def outlive_readers() -> None:
    """Let this process go on when the reader of its output goes, as in `onboard status | head`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        with contextlib.suppress(AttributeError, OSError):  # closed, or none of the system's
            if _is_pipe(stream.fileno()):
                setattr(sys, name, _outliving(stream))


def is_unread(stream: IO[str]) -> bool:
    """Return whether standard output or error was a pipe whose reader has gone."""
    with contextlib.suppress(AttributeError, OSError):  # none of the system's
        descriptor = stream.fileno()
        poll = select.poll()
        poll.register(descriptor, 0)
        pipe = getattr(getattr(stream, "buffer", None), "raw", None)
        return isinstance(pipe, _Pipe) and (not _is_pipe(descriptor) or bool(poll.poll(0)))
    return False


def _is_pipe(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _outliving(stream: TextIO) -> TextIO:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=bool(stream.line_buffering),
    )
