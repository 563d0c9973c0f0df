"""`queues` shows what the broker holds, `purge` empties queues, `dead` lists, replays and drops what was parked."""

import datetime as dt
import json
from typing import TYPE_CHECKING

import click

from taskcore.cli.session import Session, pass_session
from taskcore.cli.values import table

if TYPE_CHECKING:
    from taskcore._core import Publisher

COUNTS = ("depth", "in_flight", "scheduled", "dead")
SHOWN = 100  # bytes of a dead letter's reason and message in a table


def chosen(broker: "Publisher", names: str | None) -> list[str]:
    """The queues of `-Q`, else all that exist at the broker."""
    if names is None:
        return broker.queues()
    return [name.strip() for name in names.split(",") if name.strip()]


only = click.option(
    "-Q", "--queues", "names", metavar="NAME,...", help="Only these; otherwise all at the broker."
)


@click.command()
@only
@click.option("--json", "as_json", is_flag=True, help="One JSON list instead of a table.")
@pass_session
def queues(session: Session, /, names: str | None, as_json: bool) -> None:
    """Show how much is ready, running, scheduled and parked."""
    broker = session.app.publisher
    rows = [
        {"queue": name} | {key: broker.stats(name)[key] for key in COUNTS}
        for name in chosen(broker, names)
    ]
    if as_json:
        click.echo(json.dumps(rows))
    elif not rows:
        click.echo(f"no queues at {broker.url}")
    else:
        click.echo(
            table(
                ["queue", "depth", "in flight", "scheduled", "dead"],
                [list(row.values()) for row in rows],
            )
        )


@click.command()
@only
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@pass_session
def purge(session: Session, /, names: str | None, force: bool) -> None:
    """Drop what is ready and scheduled. What runs, and dead letters, stay."""
    broker = session.app.publisher
    # Without `-Q` only the app's own queue, as the broker may hold other people's.
    picked = (
        chosen(broker, names) if names is not None else [str(session.app.conf.task_default_queue)]
    )
    listed = ", ".join(f"`{name}`" for name in picked)
    if not force:
        click.confirm(
            f"This drops every waiting message of {listed} at {broker.url}. Go on?",
            abort=True,
            err=True,
        )
    dropped = sum(broker.purge(name) for name in picked)
    click.echo(f"purged {dropped} messages from {listed}")


@click.group()
def dead() -> None:
    """List, replay and drop messages that could not be executed."""


@dead.command("list")
@click.argument("queue")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Show the newest so many.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON list; the message as text with escapes."
)
@pass_session
def list_dead(session: Session, /, queue: str, limit: int, as_json: bool) -> None:
    """Show the newest dead letters of QUEUE and why they are there."""
    letters = session.app.publisher.dead(queue, limit)
    if as_json:
        click.echo(
            json.dumps(
                [
                    letter | {"raw": letter["raw"].decode("utf-8", "backslashreplace")}
                    for letter in letters
                ]
            )
        )
        return
    if not letters:
        click.echo(f"no dead letters in `{queue}`")
    for letter in letters:
        at = dt.datetime.fromtimestamp(letter["at"]).astimezone().isoformat(timespec="seconds")
        click.echo(
            f"{letter['key']}  {at}  {letter['id'] or '-'}  redelivered {letter['redeliveries']} times"
        )
        click.echo(f"    {letter['reason']}")
        click.echo(f"    {letter['raw'][:SHOWN]!r}")


@dead.command("replay")
@click.argument("queue")
@click.argument("keys", nargs=-1)
@pass_session
def replay_dead(session: Session, /, queue: str, keys: tuple[str, ...]) -> None:
    """Put the dead letters KEYS of QUEUE, or all of them, back to be executed."""
    click.echo(
        f"replayed {session.app.publisher.replay(queue, list(keys) or None)} messages into `{queue}`"
    )


@dead.command("drop")
@click.argument("queue")
@click.argument("keys", nargs=-1)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@pass_session
def drop_dead(session: Session, /, queue: str, keys: tuple[str, ...], force: bool) -> None:
    """Drop the dead letters KEYS of QUEUE, or all of them, for good."""
    if not force:
        which = f"{len(keys)} dead letters" if keys else "every dead letter"
        click.confirm(f"This drops {which} of `{queue}` for good. Go on?", abort=True, err=True)
    click.echo(
        f"dropped {session.app.publisher.discard(queue, list(keys) or None)} messages of `{queue}`"
    )
