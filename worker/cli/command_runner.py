"""Runs a command between settings and exit code: the only place where errors become sentences."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from tasks.error_texts import Sentence, Translatable
from tasks.gc_tuning import collect_from_now_on
from worker.cli.options import STOPPED, UNUSABLE
from worker.cli.usage_errors import print_unusable
from worker.failures import failure_of, line_of_end, spoken_language

if TYPE_CHECKING:
    from tasks.services import Services
    from tasks.settings import Settings
    from worker.screen import Screen


def leave(
    command: Any, *, json_output: bool, lang: str | None = None, settings_from: Callable[[], Settings] | None = None
) -> NoReturn:
    """Run a command between settings and exit code.

    `settings_from` is for a command that does without those of this installation.
    """
    from tasks import reason_texts
    from tasks.errors import UnusableFile
    from tasks.services import Services
    from tasks.settings import load_settings
    from worker import logs
    from worker.interrupts import Interrupts
    from worker.questions import Declined
    from worker.screen import open_screen

    settings = None
    try:
        settings = (settings_from or load_settings)()
        logs.configure(settings.log_level)
        services: Services = Services(settings)
        screen = open_screen(
            lang or settings.lang,
            settings.time_zone,
            on_stderr=json_output,
            mask_customers=settings.mask_customers,
        )
        collect_from_now_on()
        with Interrupts():
            code, result = command(services, screen)
    except UnusableFile as error:
        spoken = lang or spoken_language(settings)
        message, hint = reason_texts.explain_file(error, spoken)
        fail(message, hint=hint, code=error.code, line=error.line, json_output=json_output, lang=spoken)
    except Declined:
        spoken = lang or spoken_language(settings)
        fail(screen.texts("declined"), code="declined", exit_code=STOPPED, json_output=json_output, lang=spoken)
    except KeyboardInterrupt:
        message, spoken = Sentence("interrupted"), lang or spoken_language(settings)
        fail(message, code="interrupted", exit_code=STOPPED, json_output=json_output, lang=spoken)
    except Exception as error:  # noqa: BLE001 - a door: whatever it is, a person gets a sentence
        fail_by(error, json_output=json_output, lang=lang or spoken_language(settings))
    if json_output:
        sys.stdout.write(json.dumps(result, ensure_ascii=False, default=str) + "\n")
    raise typer.Exit(code)


def fail(
    message: str,
    *,
    hint: str = "",
    code: str = "",
    line: int | None = None,
    exit_code: int = UNUSABLE,
    json_output: bool = False,
    lang: str | None = None,
) -> NoReturn:
    """End with a message, a hint and an exit code; a `Sentence` is said in the language of whoever reads it."""
    lang = lang or spoken_language()
    if isinstance(message, Translatable):
        message = message.in_language(lang)
    typer.echo(line_of_end(message, lang, line) + (f"\n         {hint}" if hint else ""), err=True)
    if json_output:
        print_unusable(message, code=code, line=line, hint=hint)
    raise typer.Exit(exit_code)


def fail_by(error: Exception, *, json_output: bool, lang: str | None = None) -> NoReturn:
    """End with what is said about an exception that nobody else has explained."""
    message, code, exit_code = failure_of(error)
    fail(message, code=code, exit_code=exit_code, json_output=json_output, lang=lang)


def with_notifications(command: Any, *, digests: bool = False) -> Any:
    """Deliver notifications while a command runs, if there is a channel; `digests`: it is there all day."""

    def run_and_notify(services: Services, screen: Screen) -> Any:
        from worker.notifier import notifying

        with notifying(services, digests=digests):
            return command(services, screen)

    return run_and_notify


def set_window(not_before: str | None, until: str | None) -> None:
    """Put options in the place of their settings, for this process and those that it starts."""
    for name, value in (("ONBOARD_NOT_BEFORE", not_before), ("ONBOARD_UNTIL", until)):
        if value is not None:
            os.environ[name] = value
