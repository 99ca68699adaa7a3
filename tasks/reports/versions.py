"""Which program wrote a report: its version, and those of what it rests on."""

from __future__ import annotations

import contextlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

#: Packages whose versions summary.json lists.
_PACKAGES = ("elepay-onboarding", "celery", "redis", "requests", "pandas", "sqlalchemy", "tenacity")


@cache
def program_versions() -> dict[str, str]:
    """Return program -> version, without those that are not installed as packages."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
