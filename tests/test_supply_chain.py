"""Laws for what comes from elsewhere: it is listed, locked, licensed, and somebody said why it is there."""

from __future__ import annotations

import json
import re
import runpy
import tomllib
from typing import Any

import pytest
from factories import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SBOM: dict[str, Any] = json.loads((ROOT / "deploy" / "sbom.cdx.json").read_text("utf-8"))
#: Whoever installs the program may do so under each of these, and pass it on inside of a company or in an image.
LICENCES = {
    *("MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "Apache-2.0", "ISC", "PSF-2.0", "Zlib", "CC0-1.0"),
    *("MPL-2.0", "LGPL-3.0-only"),  # for changes to their own files only; we change none
}


def direct() -> set[str]:
    """Return the distributions that pyproject.toml asks for, extras included, tools of development not."""
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_the_bill_of_materials_is_that_of_this_installation() -> None:
    made = runpy.run_path(str(ROOT / "deploy" / "sbom.py"))["bill_of_materials"]()
    assert made == SBOM, "`make sbom` writes it anew"


def test_the_bill_of_materials_lists_what_is_asked_for() -> None:
    assert direct() <= {one["name"] for one in SBOM["components"]}


def test_files_of_others_in_our_packages_are_listed_too() -> None:
    noted = [tomllib.loads(path.read_text("utf-8")) for path in ROOT.glob("worker/**/vendored.toml")]
    hashes = {one["sha256"] for files in noted for one in files.values()}
    assert hashes
    assert hashes == {each["content"] for one in SBOM["components"] for each in one.get("hashes", [])}
    others = {path.name for path in ROOT.glob("worker/**/*.min.js")}
    assert others == {name for files in noted for name in files}


@pytest.mark.parametrize("component", SBOM["components"], ids=lambda component: component["name"])
def test_every_licence_is_one_that_we_accept(component: dict[str, Any]) -> None:
    (licence,) = component["licenses"]
    words = set(re.findall(r"[A-Za-z0-9.-]+", licence["expression"])) - {"AND", "OR"}
    assert words <= LICENCES


def test_every_dependency_has_a_reason_and_no_other_is_explained() -> None:
    page = (ROOT / "docs" / "engineering" / "dependencies.md").read_text("utf-8")
    explained = re.findall(r"^\| ([a-z][\w-]*)(?: \([^)]*\))? \|", page, re.MULTILINE)
    assert set(explained) - {"distribution"} == direct()


def test_the_lock_file_pins_by_hash_and_names_no_index() -> None:
    text = (ROOT / "requirements.lock").read_text("utf-8")
    assert not re.search(r"https?://|--index|--find-links", text)
    for pin in re.split(r"\n(?=[A-Za-z0-9])", text)[1:]:
        assert "--hash=sha256:" in pin, pin.partition("\n")[0]
