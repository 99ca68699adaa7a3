"""Steps that take long run in threads of their own; the loop collects their results."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future


def run_in_background(work: Callable[[], None], on_end: Callable[[], None]) -> Future[None]:
    """Run a function in a thread; `on_end` is called there when the result, or the exception, is available.

    The thread does not keep the process from ending.
    """
    future: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the door of a thread: the loop examines it
            future.set_exception(error)
        else:
            future.set_result(None)
        on_end()

    threading.Thread(target=run, daemon=True).start()
    return future
