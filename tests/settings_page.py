"""Writes docs/reference/settings.md from the code: `python tests/settings_page.py`."""

from __future__ import annotations

from pathlib import Path

from tasks.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "settings.md"

HEAD = """\
# Settings

`.venv/bin/python tests/settings_page.py` writes this page from `tasks/setting_fields.py`, and a test compares the two.
Change the code, not the page.

A setting is looked for in this order; the first place that has it wins:

1. the environment;
2. a file `.env` in the working directory;
3. the file that `NAME_FILE` names, e.g. `ELEPAY_SECRET_KEY_FILE=/run/secrets/elepay`;
4. a file called like the setting in the folder `ONBOARD_SECRETS_DIR`.

No default depends on the working directory. A folder that you set without a leading slash does: it is relative to the
working directory, which is where `.env` is. `~/` is your home directory; without `HOME` and `XDG_STATE_HOME`,
`ONBOARD_HOME` must be set.

Names are case-sensitive. A setting that is malformed, or starts with `ELEPAY_` or `ONBOARD_` and does not exist, stops
the program at its start, and the message names it and the nearest name; so does a line of `.env` that cannot be read,
and a `.env` that is not UTF-8. What Kubernetes sets for services called `onboard` or `elepay` (`…_SERVICE_HOST`,
`…_PORT`) is not read. `LEDGER_URL` may begin with `postgres://`, `postgresql://` or `sqlite://`.
The key is never taken from the command line.

| name | default | what it is |
|---|---|---|
"""


def page() -> str:
    """Return the page that the code deserves."""
    lines = []
    for field in Settings.model_fields.values():
        if field.validation_alias is None:  # no setting
            continue
        name = field.validation_alias.choices[0]
        lines.append(f"| `{name}` | {shown(field.default)} | {field.description} |\n")
    return HEAD + "".join(lines)


def shown(default: object) -> str:
    """Return a default as one would write it into `.env`; nothing for none."""
    if default in (None, (), ""):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`{','.join(f'{one:g}' if isinstance(one, float) else str(one) for one in default)}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
