"""LEDGER_URL: SQLite or PostgreSQL, in the spellings that people know."""

from __future__ import annotations

from tasks.errors import BadValue

_POSTGRESQL = "postgresql+psycopg"
#: What other programs call the same database.
_SPELLINGS = dict.fromkeys(("postgres", "postgresql", "postgresql+psycopg2", "pgsql"), _POSTGRESQL)


def usable_ledger_url(url: str) -> str:
    """Return a URL as SQLAlchemy takes it. Raises BadValue with a sentence that quotes nothing but the scheme."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise BadValue("must be an address such as postgresql://USER:PASSWORD@HOST:5432/DATABASE or sqlite:////PATH")
    scheme = scheme.lower()
    if scheme in _SPELLINGS:
        return f"{_SPELLINGS[scheme]}://{rest}"
    if scheme not in (_POSTGRESQL, "sqlite", "sqlite+pysqlite"):
        shown = scheme if scheme.replace("+", "").isalnum() and len(scheme) < 40 else "that"
        raise BadValue(
            "{scheme}:// is no ledger: only PostgreSQL (postgresql://…) and SQLite (sqlite:////PATH) are", scheme=shown
        )
    return f"{scheme}://{rest}"
