"""elepay's payment methods and resources, and what each demands of a source (data: `catalogue.toml`)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks.error_texts import Words
from tasks.errors import SettingsError

#: For payments with a scanned code only (docs/reference/elepay-api.md §3.4).
AUTO = "auto"
#: The only resource with which `auto` means anything.
AUTO_RESOURCE = "cpm"

_LISTS = ("resources", "point_of_sale", "holds_sources", "holds_sources_after_application", "holds_no_sources")


@dataclass(frozen=True, slots=True)
class Need:
    """A key of `extra` that some methods want with some resources (docs/reference/elepay-api.md §4)."""

    key: str
    methods: frozenset[str]  #: empty: all
    resources: frozenset[str]  #: empty: all
    required: bool = False  #: a row without it is invalid; otherwise a warning
    if_set: tuple[tuple[str, str], ...] = ()  #: only for rows whose `extra` has these values

    def applies_to(self, method: str, resource: str) -> bool:
        """True if a row with this method and resource wants the key."""
        return (not self.methods or method in self.methods) and (not self.resources or resource in self.resources)


@dataclass(frozen=True)
class Catalogue:
    """What may stand in a row, as far as elepay documents it."""

    resources: frozenset[str]
    point_of_sale: frozenset[str]
    holds_sources: frozenset[str]
    holds_sources_after_application: frozenset[str]
    holds_no_sources: frozenset[str]
    needs: tuple[Need, ...]
    known_extra_keys: frozenset[str]

    @cached_property
    def methods(self) -> frozenset[str]:
        """Every payment method."""
        return self.source_methods | self.holds_no_sources

    @cached_property
    def source_methods(self) -> frozenset[str]:
        """The payment methods that can hold a source (docs/reference/elepay-api.md §3.3)."""
        return self.holds_sources | self.holds_sources_after_application

    def needs_of(self, method: str, resource: str) -> tuple[Need, ...]:
        """Return the keys of `extra` that a row with this method and resource wants."""
        return tuple(need for need in self.needs if need.applies_to(method, resource))


def load_catalogue(
    extra_methods: Iterable[str] = (), extra_resources: Iterable[str] = (), file: Path | None = None
) -> Catalogue:
    """Return the catalogue of this package, extended.

    `extra_methods` may hold sources, whatever the catalogue says of them. `file` has the form of `catalogue.toml`.
    Raises `SettingsError` if it cannot be read.
    """
    base = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text("utf-8"))
    over = _read(file) if file else {}
    lists = {name: frozenset(base.get(name, ())) | frozenset(over.get(name, ())) for name in _LISTS}
    promoted = frozenset(over.get("holds_sources", ())) | frozenset(extra_methods)
    applied = lists["holds_sources_after_application"] - promoted
    return Catalogue(
        resources=lists["resources"] | frozenset(extra_resources) | lists["point_of_sale"],
        point_of_sale=lists["point_of_sale"],
        holds_sources=lists["holds_sources"] | promoted,
        holds_sources_after_application=applied,
        holds_no_sources=lists["holds_no_sources"] - promoted - applied,
        needs=_needs(base) + _needs(over),
        known_extra_keys=frozenset(
            key for source in (base, over) for key in source.get("known_extra", {}).get("keys", ())
        ),
    )


def _needs(source: Mapping[str, Any]) -> tuple[Need, ...]:
    return tuple(
        Need(
            key,
            frozenset(entry.get("methods", ())),
            frozenset(entry.get("resources", ())),
            bool(entry.get("required", False)),
            tuple(sorted(entry.get("if_set", {}).items())),
        )
        for entry in source.get("extra", ())
        for key in entry["keys"]
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        source = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            "The catalogue file {name} cannot be read: {why}.", name=file.name, why=Words(error)
        ) from error
    for name, value in source.items():
        if name in _LISTS:
            fits = _is_list_of_text(value)
        elif name == "extra":
            fits = isinstance(value, list) and all(_is_need(entry) for entry in value)
        else:
            fits = name == "known_extra" and isinstance(value, dict) and _is_list_of_text(value.get("keys"))
        if not fits:
            raise SettingsError(
                "The catalogue file {name} has an unknown or malformed entry {entry!r}.", name=file.name, entry=name
            )
    return source


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) and each for each in value)


def _is_need(entry: object) -> bool:
    if not isinstance(entry, dict) or not entry.keys() <= {"methods", "resources", "keys", "required", "if_set"}:
        return False
    lists = [entry.get("keys"), entry.get("methods", []), entry.get("resources", [])]
    conditions = entry.get("if_set", {})
    return (
        all(_is_list_of_text(value) for value in lists)
        and isinstance(entry.get("required", False), bool)
        and isinstance(conditions, dict)
        and all(isinstance(value, str) for value in conditions.values())
    )
