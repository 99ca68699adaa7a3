"""Laws of every store of files: whole or not at all, for its owner only, the manifest last, whatever is killed."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
from factories import ROOT

from tasks.files.file_store import MANIFEST, FileStore
from tasks.files.local_folder import LocalFolder
from tests import warm


@pytest.fixture(params=[LocalFolder])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    """An empty store of each kind."""
    return request.param(tmp_path / "store")  # type: ignore[no-any-return]


def put(store: FileStore, name: str, content: bytes) -> None:
    with store.put(name) as file:
        file.write(content)


def read(store: FileStore, name: str) -> bytes:
    path = store.get(name)
    assert path
    return path.read_bytes()


def publish(store: FileStore, **contents: str) -> dict[str, Path]:
    with store.publication() as publication:
        for name, content in contents.items():
            publication.path(name).write_text(content, encoding="utf-8")
        return publication.publish({"format": 1}, ["a", "b", "c"])


def is_whole(store: FileStore) -> bool:
    """Tell whether there is a manifest; every file that it names must be as it says."""
    manifest = store.get(MANIFEST)
    if manifest is None:
        return False
    for name, told in json.loads(manifest.read_bytes())["files"].items():
        content = read(store, name)
        assert told == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return True


def test_what_was_put_is_got_listed_and_removed(store: FileStore) -> None:
    assert (store.list(), store.get("a"), store.remove("a")) == ([], None, False)
    put(store, "b", b"2")
    put(store, "a", b"1")
    put(store, "a", b"one")
    put(store.folder("more"), "c", b"3")
    assert store.list() == ["a", "b", "more"]
    assert read(store, "a") == b"one"
    assert store.get("more") is None, "a folder is no file"
    assert (store.remove("a"), store.remove("more"), store.remove("more")) == (True, True, False)
    assert store.list() == ["b"]
    assert store.folder("more").get("c") is None


def test_a_file_that_was_not_written_to_its_end_leaves_the_former_one(store: FileStore) -> None:
    put(store, "a", b"former")
    for name in ("a", "b"):
        with pytest.raises(RuntimeError), store.put(name) as file:  # noqa: PT012 - the error comes in the block
            file.write(b"ha")
            assert store.list() == ["a"]
            assert read(store, "a") == b"former"
            raise RuntimeError
    assert store.list() == ["a"]
    assert read(store, "a") == b"former"


def test_what_was_written_can_be_read_before_it_is_kept(store: FileStore) -> None:
    with store.put("a") as file:
        file.write(b"content")
        file.seek(0)
        assert hashlib.file_digest(file, "sha256").hexdigest() == hashlib.sha256(b"content").hexdigest()
    assert read(store, "a") == b"content"


def test_a_set_takes_the_place_of_the_former_one(store: FileStore) -> None:
    put(store, "other", b"somebody else's")
    assert set(publish(store, a="1", b="2")) == {"a", "b", MANIFEST}
    assert is_whole(store)
    publish(store, b="two", c="3")
    assert is_whole(store)
    assert store.list() == ["b", "c", MANIFEST, "other"]
    assert read(store, "b") == b"two"


def test_a_file_that_somebody_has_edited_stays_beside(store: FileStore) -> None:
    for number in ("", "-2"):
        publish(store, a="1", b="2")
        put(store, "a", f"corrected{number}".encode())
        with store.publication() as publication:
            publication.path("b").write_text("two", encoding="utf-8")
            publication.publish({"format": 1}, ["a", "b"])
            assert {name: path.name for name, path in publication.edited.items()} == {"a": f"a-edited{number}"}
        assert read(store, f"a-edited{number}") == f"corrected{number}".encode()
    assert is_whole(store)
    publish(store, a="1")
    assert store.list() == ["a", "a-edited", "a-edited-2", MANIFEST]


def test_a_set_that_was_not_published_leaves_the_former_one(store: FileStore) -> None:
    publish(store, a="1")
    with pytest.raises(RuntimeError), store.publication() as publication:  # noqa: PT012 - the error comes in the block
        publication.path("a").write_text("half")
        raise RuntimeError
    with pytest.raises(FileNotFoundError), store.publication() as publication:  # noqa: PT012
        publication.path("b")
        publication.publish({}, ["a", "b"])
    assert is_whole(store)
    assert store.list() == ["a", MANIFEST]


def test_a_local_folder_is_for_its_owner_only(tmp_path: Path) -> None:
    store = LocalFolder(tmp_path / "new" / "store")
    put(store, "other", b"1")
    publish(store, b="2")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [store.path, *store.path.iterdir()]}
    assert modes == {"store": 0o700, "other": 0o600, "b": 0o600, MANIFEST: 0o600}
    store.path.chmod(0o750)
    put(store, "other", b"2")
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o750, "the mode of a folder that exists is left alone"


#: Ends at once, as if it were killed, before the so-manieth time that it renames, removes, opens or makes anything.
DIES = """
import os, sys
from pathlib import Path
from tasks.files.local_folder import LocalFolder

folder, steps = Path(sys.argv[1]), int(sys.argv[2])

def die(event, _):
    global steps
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "open"):
        steps -= 1
        if steps < 0:
            os._exit(9)

store = LocalFolder(folder)
sys.addaudithook(die)
with store.put("single") as file:
    file.write(b"new" * 10_000)
with store.publication() as publication:
    for name in ("b", "c"):
        publication.path(name).write_text("new " + name, encoding="utf-8")
    publication.publish({"format": 1}, ["a", "b", "c"])
"""


def test_wherever_a_writer_dies_every_file_is_whole_and_a_manifest_tells_the_truth(tmp_path: Path) -> None:
    store = LocalFolder(tmp_path)
    seen: set[tuple[bool, bytes]] = set()
    for steps in range(100):
        put(store, "single", b"old")
        publish(store, a="old a", b="old b")
        words = (DIES, str(tmp_path), str(steps))
        died = warm.start("-c", *words, environment=os.environ, folder=ROOT, stdout=1, stderr=2).wait(60)
        assert died in (0, 9)
        assert read(store, "single") in (b"old", b"new" * 10_000)
        if is_whole(store):
            assert {name for name in ("a", "b", "c") if store.get(name)} in ({"a", "b"}, {"b", "c"})
        seen.add((is_whole(store), read(store, "single")[:3]))
        if not died:
            break
    assert not died
    assert seen == {(True, b"old"), (True, b"new"), (False, b"new")}, "a killed one leaves each of these once"
    publish(store, a="1")
    assert not list(tmp_path.glob(".writing-*")), "what the killed ones left is gone"
    assert not list(tmp_path.glob("*-edited*")), "nobody has edited anything"
