"""`inspect` asks workers, `control` tells them, `status` lists those that are there.

Exit code 69, as Celery's, when nobody answers.
"""

import json as json_of
import pprint
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

import click

from taskcore.cli.session import Session, pass_session
from taskcore.cli.values import Names, printable
from taskcore.control import catalog

F = TypeVar("F", bound=Callable[..., Any])

NOBODY = 69
"""Exit code: the service is unavailable (EX_UNAVAILABLE)."""


class Unanswered(click.ClickException):
    """No worker has answered."""

    exit_code = NOBODY

    def __init__(self) -> None:
        super().__init__("No nodes replied within time constraint")


def asking(command: F) -> F:
    """The options of everything that waits for replies."""
    options = (
        click.option(
            "-t",
            "--timeout",
            metavar="SECONDS",
            type=click.FloatRange(0),
            default=1.0,
            show_default=True,
            help="Wait so long for a reply, or for the next one.",
        ),
        click.option(
            "-d",
            "--destination",
            metavar="NAME,...",
            type=Names(),
            help="Only these workers.",
        ),
        click.option("-j", "--json", "as_json", is_flag=True, help="JSON instead of text."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def listing(kind: catalog.Kind) -> Callable[[F], F]:
    """The option that shows what there is."""

    def show(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if not value or ctx.resilient_parsing:
            return
        session = ctx.find_object(Session)
        if session is not None and session.spec is not None:
            session.app.conf.keys()  # its modules may have commands of their own
        formatter = click.HelpFormatter()
        with formatter.section(f"{kind.capitalize()} Commands"):
            rows = catalog.of_kind(kind).items()
            formatter.write_dl(
                [(f"{name} {info.signature or ''}".rstrip(), info.help) for name, info in rows]
            )
        click.echo(formatter.getvalue(), nl=False)
        ctx.exit()

    return click.option(
        "-l",
        "--list",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the commands and exit.",
    )


def compiled(kind: catalog.Kind, name: str, words: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of a command.

    Raises:
        click.UsageError: there is no such command of this kind, or its arguments are wrong.
    """
    known = catalog.of_kind(kind)
    if name not in known:
        listed = ", ".join(known)
        raise click.UsageError(
            f"Command {name} not recognized. Available {kind} commands: {listed}"
        )
    try:
        return catalog.arguments(name, known[name], words)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def say(reply: dict[str, Any], body: bool = True) -> None:
    """Shows one worker's reply."""
    for node, answer in reply.items():
        failed = isinstance(answer, dict) and "error" in answer
        click.echo(f"->  {printable(node)}: {'ERROR' if failed else 'OK'}")
        if body or failed:
            click.echo(textwrap.indent(_shown(answer), "        "))


def _shown(answer: Any) -> str:
    if isinstance(answer, dict) and len(answer) == 1:
        only = next(iter(answer.values()))
        if answer.keys() <= {"ok", "error"} and isinstance(only, str):
            return only
    if answer == [] or answer is None:
        return "- empty -"
    if isinstance(answer, list):
        return "\n".join(
            f"* {item if isinstance(item, str) else pprint.pformat(item)}" for item in answer
        )
    return pprint.pformat(answer)


def count(nodes: int) -> None:
    """How many answered."""
    click.echo(f"\n{nodes} {'node' if nodes == 1 else 'nodes'} online.")


@click.command()
@asking
@pass_session
def status(
    session: Session, /, timeout: float, destination: list[str] | None, as_json: bool
) -> None:
    """Show the workers that are there."""
    callback = None if as_json else lambda reply: say(reply, body=False)
    control = session.existing().control
    replies = control.inspect(destination, timeout=timeout, callback=callback).ping()
    if not replies:
        raise Unanswered
    if as_json:
        click.echo(json_of.dumps(replies))
    else:
        count(len(replies))


@click.command("inspect", context_settings={"ignore_unknown_options": True})
@click.argument("command")
@click.argument("words", metavar="[ARGUMENT]...", nargs=-1)
@listing("inspect")
@asking
@pass_session
def inspect_workers(
    session: Session,
    /,
    command: str,
    words: tuple[str, ...],
    timeout: float,
    destination: list[str] | None,
    as_json: bool,
) -> None:
    """Ask workers for what they hold and have done."""
    app = session.existing()
    arguments = compiled("inspect", command, words)
    callback = None if as_json else say
    inspect = app.control.inspect(destination, timeout=timeout, callback=callback)
    replies = inspect.ask(command, **arguments)
    if not replies:
        raise Unanswered
    if as_json:
        click.echo(json_of.dumps(replies))
    else:
        count(len(replies))


@click.command("control", context_settings={"ignore_unknown_options": True})
@click.argument("command")
@click.argument("words", metavar="[ARGUMENT]...", nargs=-1)
@listing("control")
@asking
@pass_session
def control_workers(
    session: Session,
    /,
    command: str,
    words: tuple[str, ...],
    timeout: float,
    destination: list[str] | None,
    as_json: bool,
) -> None:
    """Tell workers what to do."""
    app = session.existing()
    arguments = compiled("control", command, words)
    replies = app.control.broadcast(
        command,
        arguments,
        destination,
        reply=True,
        timeout=timeout,
        callback=None if as_json else say,
    )
    if not replies:
        raise Unanswered
    if as_json:
        click.echo(json_of.dumps(replies))
