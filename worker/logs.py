"""One event a line, ids always, personal data and keys never: JSON when nobody watches, readable on a terminal."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, TextIO

import structlog

#: What looks like a key never leaves, whatever wrote it.
_KEY = re.compile(r"\b([sp]k_(?:test|live)_)\w+")


def configure(level: str = "INFO") -> None:
    """Send every log line of this process, ours and the libraries', to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_tracebacks,
        _without_keys,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(pad_event_to=28)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer(sort_keys=True, ensure_ascii=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("onboard").setLevel(level)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to standard error, or by whatever has taken its place there for a time."""

    #: What writes a line in the place of standard error.
    write: Callable[[str], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.write is None:
            super().emit(record)
            return
        try:
            self.write(self.format(record))
        except Exception:  # noqa: BLE001 - as every handler: no line of the log ends the program
            self.handleError(record)


@contextlib.contextmanager
def written_by(write: Callable[[str], None]) -> Iterator[None]:
    """Give every line of the log to `write` inside of the block, if standard error is a terminal."""
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, _Handler) and each.stream.isatty()]
    for handler in handlers:
        handler.write = write
    try:
        yield
    finally:
        for handler in handlers:
            handler.write = None


def _without_tracebacks(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep the place and the class of an exception; its text and locals may quote data."""
    info = event.pop("exc_info", None)
    if info:
        error = info[1] if isinstance(info, tuple) else info if isinstance(info, BaseException) else sys.exc_info()[1]
        if error is not None:
            event["error"] = type(error).__name__
            event["at"] = _place(error)
    return event


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    places = []
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(places[-4:])


def _without_keys(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _KEY.sub(r"\1…", value)
    return event
