"""Who gives a command, for the ledger's history: the user that the system knows, and this machine."""

from __future__ import annotations

import os
import pwd
import socket

from tasks.models import ShellName


def who() -> ShellName:
    """Return `user@host`: the name of the real user id, or its number if it has no name.

    LOGNAME, USER and their like are not believed: anybody can set them.
    """
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's user id need not have a name
        user = str(uid)
    return ShellName(f"{user}@{socket.gethostname()}")
