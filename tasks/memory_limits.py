"""What a process may take of memory: less address space from the start, and one word for its end."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import threading

from tasks.error_texts import Sentence

#: Exit code of a process that ended because it got no memory (EX_SOFTWARE of sysexits.h).
OUT_OF_MEMORY = 70
#: What is said then.
NO_MEMORY = Sentence(
    "not enough memory: the process reached its limit (`ulimit -v`, the container's, or the machine's)."
    " Nothing is lost; raise the limit (700 MB of address space suffice), then run the same command again"
)
#: With less address space not even what reads files can be loaded: OpenBLAS then ends the process by itself.
_LEAST_BYTES = 300_000_000
#: Of a thread's stack. The 8 MB of Linux are address space for each of some hundred threads.
_STACK_BYTES = 1024 * 1024
_ARENAS = 2
_M_ARENA_MAX = -8  # <malloc.h>
_SAID = ("can't start new thread", "annot allocate memory", "failed to map segment", "out of memory")


def save_address_space() -> None:
    """Let this process and its children reserve little address space; to be called before there are threads.

    1. small stacks. 2. glibc would reserve 64 MB for each thread that allocates memory. 3. OpenBLAS, which numpy loads
    and nothing here uses, would start a thread with a buffer for each core.
    """
    threading.stack_size(_STACK_BYTES)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def is_too_small() -> bool:
    """Return whether the limit on this process's address space is one with which nothing can be done."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return limit != resource.RLIM_INFINITY and limit < _LEAST_BYTES


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or what it came from, says that there is no memory (or no thread) to be had."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or (isinstance(seen, OSError) and seen.errno == errno.ENOMEM):
            return True
        if isinstance(seen, RuntimeError | ImportError) and any(text in str(seen) for text in _SAID):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
