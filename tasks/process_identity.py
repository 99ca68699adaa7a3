"""Who this process is, and whether another one on the same machine surely is dead."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def host() -> str:
    """Return a name for the place in which process numbers mean something: machine, boot, and container."""
    parts = [socket.gethostname()]
    for source in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")):
        try:
            parts.append(str(source.readlink()) if source.is_symlink() else source.read_text().strip()[:13])
        except OSError:
            parts.append("")
    return "/".join(parts)


def started(pid: int) -> str:
    """Return when a process started, as no later process with the same number has it; "" if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_dead(pid: int, process_started: str) -> bool:
    """Tell whether a process of this machine surely has ended (False when in doubt)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    if process_started and started(pid) != process_started:
        return True
    return _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return False
