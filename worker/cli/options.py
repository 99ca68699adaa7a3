"""Arguments and options that several commands share, and the exit codes of all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.error_texts import Sentence

ALL_DONE, NEED_A_PERSON, UNUSABLE, STOPPED = 0, 1, 2, 3

FileArgument = Annotated[Path, typer.Argument(help="The CSV file.", show_default=False)]
BatchArgument = Annotated[int, typer.Argument(help="Number of the batch; `onboard status` lists them.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object last on standard output.")]
MappingOption = Annotated[Path | None, typer.Option(help="TOML file with more column titles.", show_default=False)]
NotBeforeOption = Annotated[
    str | None, typer.Option(help="HH:MM; nothing is sent before, day by day.", show_default=False)
]
ReportsOption = Annotated[Path | None, typer.Option(help="Folder for the reports.", show_default=False)]
WorkersOption = Annotated[int | None, typer.Option(help="Worker processes; default: ONBOARD_WORKERS.", min=1)]
NoWorkersOption = Annotated[bool, typer.Option("--no-workers", help="Leave the sending to the fleet's workers.")]
ExcelSafeOption = Annotated[bool, typer.Option("--excel-safe", help="Also write CSV copies safe for Excel.")]
UntilOption = Annotated[str | None, typer.Option(help="HH:MM; nothing is sent from then on.", show_default=False)]
VerifyFirstOption = Annotated[
    bool, typer.Option("--verify-first", help="Look every row up at elepay before it is sent: the ledger was lost.")
]


YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask; without a terminal nobody is asked.")]


#: As `tasks.reason_texts` has them, which takes long to load for a shell that completes.
_LANGUAGES = ("en", "ja")


def _known_language(lang: str | None) -> str | None:
    if lang not in (None, *_LANGUAGES):
        raise typer.BadParameter(Sentence("{lang!r} is no language of this program: en or ja", lang=lang))
    return lang


LangOption = Annotated[
    str | None,
    typer.Option(
        help="Language of what is printed and of reports: en or ja.",
        show_default=False,
        callback=_known_language,
        autocompletion=lambda: list(_LANGUAGES),
    ),
]
