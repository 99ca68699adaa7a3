"""`onboard console`: serves the review pages; and who may sign in there with a password."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from worker.cli.command_runner import leave
from worker.cli.options import JsonOption, LangOption

console = typer.Typer(invoke_without_command=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the person, as the history shows it.", show_default=False)]
Role = Literal["viewer", "operator", "approver"]


@console.callback(epilog="Examples:  onboard console  ·  onboard console --port 9000")
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="The address of this machine where the pages are served.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its port; 0: any that is free.", min=0, max=65535)] = 8140,
    lang: LangOption = None,
    json_output: JsonOption = False,
) -> None:
    """Serve the review pages, for people who decide in a browser, until stopped."""
    if context.invoked_subcommand is not None:
        return
    from worker.console import command

    options = command.Options(host=host, port=port)
    leave(
        lambda services, screen: command.console(services, options, screen),
        json_output=json_output,
        lang=lang,
    )


@console.command("add-user", epilog="Example:  onboard console add-user hana.suzuki --role approver")
def add_user(
    name: NameArgument,
    role: Annotated[Role, typer.Option(help="What they may do; each role includes those before it.")] = "viewer",
    json_output: JsonOption = False,
) -> None:
    """Let somebody sign in with a password, which is asked for, or read from standard input."""
    from worker.commands import console_users

    leave(lambda services, screen: console_users.add(services, name, role, screen), json_output=json_output)


@console.command("list-users")
def list_users(json_output: JsonOption = False) -> None:
    """List who may sign in with a password."""
    from worker.commands import console_users

    leave(console_users.list_all, json_output=json_output)


@console.command("remove-user")
def remove_user(name: NameArgument, json_output: JsonOption = False) -> None:
    """Let somebody no longer sign in; they are signed out everywhere."""
    from worker.commands import console_users

    leave(lambda services, screen: console_users.remove(services, name, screen), json_output=json_output)


@console.command("passwd")
def passwd(name: NameArgument, json_output: JsonOption = False) -> None:
    """Give somebody another password; they are signed out everywhere."""
    from worker.commands import console_users

    leave(lambda services, screen: console_users.passwd(services, name, screen), json_output=json_output)


@console.command("set-role", epilog="Example:  onboard console set-role hana.suzuki operator")
def set_role(
    name: NameArgument,
    role: Annotated[Role, typer.Argument(help="What they may do from now on.", show_default=False)],
    json_output: JsonOption = False,
) -> None:
    """Give somebody another role; they are signed out everywhere."""
    from worker.commands import console_users

    leave(lambda services, screen: console_users.set_role(services, name, role, screen), json_output=json_output)
