"""Writes deploy/sbom.cdx.json, what an installation consists of, in CycloneDX 1.6: `python deploy/sbom.py`.

The graph is that of this project's requirements with all extras, on Linux with Python 3.11. Versions are those of
requirements.lock, which has the hashes; who needs whom, and under which licence, say the installed distributions.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SBOM = ROOT / "deploy" / "sbom.cdx.json"
#: Where markers are evaluated.
LINUX = {
    "python_version": "3.11",
    "python_full_version": "3.11.9",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}
#: What packages write into the old field `License`, and their classifiers, in SPDX's terms.
SPDX = {
    "MIT": "MIT",
    "MIT License": "MIT",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD-2-Clause": "BSD-2-Clause",
    "BSD-3-Clause": "BSD-3-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache-2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "ISC License (ISCL)": "ISC",
}


def runtime_graph() -> dict[str, set[str]]:
    """Return every distribution that an installation with all extras needs, and what each needs itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    own = [Requirement(line) for line in [*project["dependencies"], *(line for extra in extras for line in extra)]]
    graph: dict[str, set[str]] = {canonicalize_name(project["name"]): set(_wanted(own, [""]))}
    todo = [(canonicalize_name(one.name), one.extras) for one in own if _applies(one, [""])]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, of_extras = todo.pop()
        if (name, frozenset(of_extras)) in seen:
            continue
        seen.add((name, frozenset(of_extras)))
        needed = [Requirement(line) for line in distribution(name).requires or ()]
        chosen = ["", *of_extras]
        graph.setdefault(name, set()).update(_wanted(needed, chosen))
        todo += [(canonicalize_name(one.name), one.extras) for one in needed if _applies(one, chosen)]
    return graph


def _wanted(requirements: Iterable[Requirement], extras: list[str]) -> Iterator[str]:
    return (canonicalize_name(one.name) for one in requirements if _applies(one, extras))


def _applies(requirement: Requirement, extras: list[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**LINUX, "extra": extra}) for extra in extras)


def licence_of(package: Distribution) -> str:
    """Return a package's licence as an SPDX expression; raise KeyError for words that stand in no table here."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classified = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if "License ::" in line]
    named = [word for word in (metadata.get("License"), *classified) if word in SPDX]
    if not named:
        raise KeyError(
            f"{metadata['Name']}: its licence is not in deploy/sbom.py: {metadata.get('License')}, {classified}"
        )
    return SPDX[named[0]]


def locked_versions() -> dict[str, str]:
    """Return the version that requirements.lock has of each distribution for that Python."""
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    pins = [Requirement(line.rstrip("\\ ")) for line in lines if line[:1].isalnum()]
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins if _applies(pin, [""])}


def vendored() -> list[dict[str, Any]]:
    """Return what lies in our own packages as others published it."""
    noted = tomllib.loads((ROOT / "worker" / "console" / "static" / "vendored.toml").read_text("utf-8"))
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:npm/{one['name']}@{one['version']}",
            "name": one["name"],
            "version": one["version"],
            "purl": f"pkg:npm/{one['name']}@{one['version']}",
            "hashes": [{"alg": "SHA-256", "content": one["sha256"]}],
            "licenses": [{"expression": one["licence"]}],
        }
        for one in noted.values()
    ]


def bill_of_materials() -> dict[str, Any]:
    """Return the document: components with version and licence, and who needs whom."""
    graph = runtime_graph()
    project, *names = graph
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    versions = locked_versions() | {project: version}
    own = [one["bom-ref"] for one in vendored()]
    refs = {name: f"pkg:pypi/{name}@{versions[name]}" for name in graph}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": refs[project],
                "name": project,
                "version": version,
                "purl": refs[project],
                "licenses": [{"expression": "MIT"}],
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": refs[name],
                "name": name,
                "version": versions[name],
                "purl": refs[name],
                "licenses": [{"expression": licence_of(distribution(name))}],
            }
            for name in sorted(names)
        ]
        + vendored(),
        "dependencies": [
            {
                "ref": refs[name],
                "dependsOn": sorted([refs[other] for other in needed] + (own if name == project else [])),
            }
            for name, needed in sorted(graph.items())
        ],
    }


if __name__ == "__main__":
    SBOM.write_text(json.dumps(bill_of_materials(), indent=1) + "\n", encoding="utf-8")
