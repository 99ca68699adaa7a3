"""A file that somebody uploads: kept, checked, and accepted once they have seen what would become of it."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any

import orjson
import structlog

from tasks import process_identity
from tasks.accept.subprocess_reader import reading_failed
from tasks.errors import LedgerError, OnboardingError
from tasks.files.atomic_write import atomic_write
from tasks.operations import upload_check
from tasks.operations.accept_batch import accept
from tasks.operations.upload_check import CheckedUpload
from tasks.services import Services

log = structlog.get_logger("onboard")

#: An upload that nobody has sent is removed after so long.
KEPT_SECONDS = 24 * 3600.0
_NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way."""

    token: str
    name: str  #: the file's own name, without folders
    who: str
    at: float
    check: CheckedUpload | None  #: None: it is still being checked
    is_checked_by_nobody: bool  #: the process that checked it is gone, without a result
    is_being_accepted: bool
    batch_id: int | None  #: the batch that it became
    error: OnboardingError | None  #: why it did not become one


@contextlib.contextmanager
def receive(services: Services, name: str, *, who: str) -> Iterator[tuple[str, BufferedRandom]]:
    """Give a token and a file to write an upload to; at the end of the block its check begins.

    After an error nothing of it is kept.
    """
    _remove_old(services)
    token = secrets.token_hex(16)
    folder = _root(services) / token
    folder.mkdir(parents=True, mode=0o700)
    try:
        with atomic_write(folder / _safe(name)) as target:
            yield token, target
        _start_check(services, folder, _safe(name))
        _write(folder / "upload.json", {"name": _safe(name), "who": who, "at": time.time()})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def find(services: Services, token: str) -> Upload:
    """Return an upload as it stands now. Raises LedgerError if there is none."""
    folder = _folder(services, token)
    said = _read(folder / "upload.json") or {}
    accepted, error = _read(folder / "accepted.json") or {}, _error_in(folder)
    checked = upload_check.read(folder / "check.pickle")
    return Upload(
        token,
        said["name"],
        said["who"],
        said["at"],
        checked,
        is_checked_by_nobody=checked is None and not _is_at_work(folder / "checking.json"),
        is_being_accepted=not accepted and not error and _is_at_work(folder / "accepting.json"),
        batch_id=accepted.get("batch"),
        error=error,
    )


def send(services: Services, token: str, *, who: str, canary: int | None, wait_seconds: float = 3.0) -> None:
    """Let an upload become a batch that the fleet, or a watcher, sends; in a thread, which is waited for a little.

    `canary` is how many rows run before a person approves the rest (None: as the settings say). Raises LedgerError if
    it is being accepted already; LedgerReplaced.
    """
    services.ledger.require_memory()
    upload, folder = find(services, token), _folder(services, token)
    _begin_accepting(folder)
    thread = threading.Thread(target=_accept, args=(services, folder, upload, who, canary), name="upload", daemon=True)
    thread.start()
    thread.join(wait_seconds)


def discard(services: Services, token: str) -> None:
    """Remove an upload. Raises LedgerError if there is none, or it is being accepted."""
    upload = find(services, token)
    if upload.is_being_accepted:
        raise LedgerError("this upload is sent already")
    shutil.rmtree(_folder(services, token), ignore_errors=True)


def _begin_accepting(folder: Path) -> None:
    """Let one process at a time accept an upload. Raises LedgerError if one does."""
    accepting = folder / "accepting.json"
    if accepting.exists() and not _is_at_work(accepting) and not (folder / "accepted.json").exists():
        accepting.unlink(missing_ok=True)  # whoever began it is gone, and nothing of it is in the ledger
    (folder / "error.pickle").unlink(missing_ok=True)
    try:
        with accepting.open("xb") as file:
            file.write(orjson.dumps(_process(os.getpid())))
    except FileExistsError:
        raise LedgerError("this upload is sent already") from None


def _accept(services: Services, folder: Path, upload: Upload, who: str, canary: int | None) -> None:
    try:
        accepted = accept(services, folder / upload.name, who=who, brought_by="console", canary=canary)
        _write(folder / "accepted.json", {"batch": accepted.batch.id})
    except Exception as error:  # noqa: BLE001 - the door of a thread
        if not isinstance(error, OnboardingError):
            log.error("page failed", path="/upload", error=type(error).__name__)  # noqa: TRY400 - its text may quote
        with atomic_write(folder / "error.pickle") as target:
            pickle.dump(error if isinstance(error, OnboardingError) else reading_failed(error), target)
        (folder / "accepting.json").unlink()


def _start_check(services: Services, folder: Path, name: str) -> None:
    pid = upload_check.start(folder / name, folder / "check.pickle", services.settings)
    _write(folder / "checking.json", _process(pid))


def _process(pid: int) -> dict[str, Any]:
    return {"pid": pid, "started": process_identity.started(pid)}


def _is_at_work(noted: Path) -> bool:
    """Return whether the process that is noted in a file is alive."""
    process = _read(noted)
    return process is not None and not process_identity.is_dead(process["pid"], process["started"])


def _error_in(folder: Path) -> OnboardingError | None:
    try:
        error: OnboardingError = pickle.loads((folder / "error.pickle").read_bytes())  # noqa: S301 - our own
    except FileNotFoundError:
        return None
    return error


def _remove_old(services: Services) -> None:
    with contextlib.suppress(FileNotFoundError):
        for folder in _root(services).iterdir():
            if folder.stat().st_mtime < time.time() - KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _root(services: Services) -> Path:
    return services.settings.home / "uploads"


def _folder(services: Services, token: str) -> Path:
    folder = _root(services) / token
    if not _NAME.fullmatch(token) or not (folder / "upload.json").is_file():
        raise LedgerError("there is no such upload; uploads that were not sent are removed after a day")
    return folder


def _safe(name: str) -> str:
    """Return a name for the file: its own without folders, hidden ones and control characters."""
    own = re.split(r"[/\\]", name)[-1]
    own = "".join(each for each in own if each.isprintable()).strip().lstrip(".")
    kept = own.encode()[-200:].decode("utf-8", "ignore")
    return kept if kept and kept not in _OURS else "upload.csv"


_OURS = frozenset({"upload.json", "checking.json", "check.pickle", "accepting.json", "accepted.json", "error.pickle"})


def _write(path: Path, values: dict[str, Any]) -> None:
    with atomic_write(path) as target:
        target.write(orjson.dumps(values))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return found
