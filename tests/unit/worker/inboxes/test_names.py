"""Names of dropped files: the table of rules, companions, and safe names."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest

from worker.inboxes.names import RULES, NameKind, companions_of, free_names, kind_of, name_of_rest, safe_name, stem_of


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("customers.csv", "customers.csv"),
        ("顧客 2026年.csv", "顧客 2026年.csv"),
        ("..\\..\\evil.csv", ".._.._evil.csv"),
        ("a\nb\x1b[31m.csv", "a_b_[31m.csv"),
        ("right\u202eto left.csv", "right_to left.csv"),
        ("no text \udcff.csv", "no text _.csv"),
        ('what?<>|*":.csv', "what_______.csv"),
        (" ", "_"),
    ],
)
def test_an_odd_name_becomes_a_plain_one(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    safe_name(name).encode()


def test_a_stem_fits_into_another_name() -> None:
    assert stem_of("customers.csv") == "customers"
    assert stem_of("..csv") == "_"
    assert stem_of("...") == "_"
    assert len(stem_of("あ" * 80 + ".csv").encode()) <= 150
    assert len(stem_of("x" * 250 + ".csv")) == 60


@pytest.mark.parametrize("name", [" ..", " .", "..", ".", "", " ... ", "\u3000..", "\u200b.."])
def test_no_safe_name_leads_to_another_folder(name: str) -> None:
    safe = safe_name(name)
    assert safe.strip("._") == ""
    assert safe not in ("", ".", "..")
    assert safe_name(safe) == safe


def test_a_safe_name_is_not_longer_than_what_it_is_made_of() -> None:
    for name in ("x" * 255, "あ" * 85, "\udcff" * 255, "\u202e" * 85, "\n" * 255, " " * 255):
        assert len(safe_name(name).encode()) <= len(name.encode(errors="surrogateescape"))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            NameKind.FILE,
            (
                "customers.csv NIGHT.CSV data export.txt export.csv.20261126 a.part.csv tmp.csv x.xlsx a.zip CON "
                "-rf.csv done ok 4913.csv a.csv.deadbeef1 #1.csv ~a.csv"
            ),
        ),
        (
            NameKind.UNFINISHED,
            (
                "x.csv.part X.CSV.PART x.partial x.csv.aB3dE5f7.partial x.tmp x.TEMP x.csv_.gstmp x.csv.filepart "
                ".x.csv x.crdownload x.csv.download x.opdownload x.csv.!ut x.!qB x.aria2 .x.csv.Ab12Cd "
                ".in.x.csv. x.swp .x.csv.swp 4913 ~$x.xlsx x.csv~ #x.csv# .~lock.x.csv# ._x.csv .DS_Store "
                "x.csv.6eF5b5dA x.csv.sb-1a2b3c4d-Ab12Cd"
            ),
        ),
        (
            NameKind.JUNK,
            (
                "desktop.ini Desktop.ini Thumbs.db THUMBS.DB ehthumbs.db Icon\r $RECYCLE.BIN __MACOSX lost+found "
                "@eaDir Thumbs.db:encryptable x.csv:Zone.Identifier"
            ),
        ),
        (NameKind.COMPLETE, "x.csv.done NIGHT.CSV.DONE x.ready x.csv.ok x.ctl x.fin x.trg"),
        (NameKind.CHECKSUM, "x.csv.md5 x.SHA1 x.csv.sha256 x.sha512 x.csv.asc x.sig SHA256SUMS md5sums.txt"),
    ],
)
def test_each_name_has_its_kind(kind: NameKind, names: str) -> None:
    assert {name: kind_of(name) for name in names.split(" ")} == dict.fromkeys(names.split(" "), kind)


def test_the_document_shows_the_table_of_rules() -> None:
    page = (Path(__file__).parents[4] / "docs" / "run" / "drop-folder.md").read_text("utf-8")
    shown = [f"| {rule.kind} | {rule.shown} | {rule.whose} |" for rule in RULES]
    table = [line for line in page.splitlines() if re.match(rf"\| ({'|'.join(NameKind)}) \|", line)]
    assert table == shown


def test_every_name_that_the_table_shows_is_of_its_kind() -> None:
    for rule in RULES:
        for shown in re.findall(r"`([^`]+)`", rule.shown):
            assert kind_of(shown.replace("*", "x").replace("\\r", "\r")) is rule.kind, shown


@pytest.mark.parametrize(
    ("files", "companions", "owned"),
    [
        ("a.csv", "a.csv.done a.ok a.csv.md5", {"a.csv": ["a.csv.done", "a.ok", "a.csv.md5"]}),
        ("night.csv", "NIGHT.CSV.DONE Night.ctl", {"night.csv": ["NIGHT.CSV.DONE", "Night.ctl"]}),
        ("a.csv A.csv", "A.csv.done", {"A.csv": ["A.csv.done"]}),
        ("a.csv A.csv", "A.CSV.done", {}),
        ("a.csv a.txt", "a.done a.txt.done", {"a.txt": ["a.txt.done"]}),
        ("a.csv", "b.csv.done", {}),
    ],
)
def test_a_companion_belongs_to_one_file_or_to_none(files: str, companions: str, owned: dict[str, list[str]]) -> None:
    assert companions_of(files.split(), companions.split()) == owned


def test_a_late_upload_has_a_name_of_its_own_that_does_not_grow() -> None:
    once = name_of_rest("顧客.csv", "aa")
    assert once == "顧客-continued-aa.csv"
    assert name_of_rest(once, "bb") == "顧客-continued-bb.csv"
    assert len(name_of_rest("x" * 255, "aa").encode()) < 100


def test_a_name_that_is_taken_gets_a_number() -> None:
    assert list(islice(free_names("12"), 3)) == ["12", "12-2", "12-3"]
