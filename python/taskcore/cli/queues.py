"""`queues` shows what the broker holds, `list` its bindings, `purge` empties queues, `dead` lists, replays and drops
what was parked."""

import datetime as dt
import json

import click

from taskcore.cli.session import Session, pass_session
from taskcore.cli.values import Names, printable, table
from taskcore.publishing.queues import bindings as bound

COUNTS = ("depth", "in_flight", "scheduled", "dead")
SHOWN = 100  # bytes of a dead letter's reason and message in a table


@click.command()
@click.option(
    "-Q",
    "--queues",
    "names",
    metavar="NAME,...",
    type=Names(),
    help="Only these; otherwise all at the broker.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON list instead of a table.")
@pass_session
def queues(session: Session, /, names: list[str] | None, as_json: bool) -> None:
    """Show how much is ready, running, scheduled and parked."""
    broker = session.existing().publisher
    rows = [
        {"queue": name} | {key: broker.stats(name)[key] for key in COUNTS}
        for name in (broker.queues() if names is None else names)
    ]
    if as_json:
        click.echo(json.dumps(rows))
    elif not rows:
        click.echo(f"no queues at {broker.url}")
    else:
        click.echo(
            table(
                ["queue", "depth", "in flight", "scheduled", "dead"],
                [[printable(str(row["queue"])), *(row[key] for key in COUNTS)] for row in rows],
            )
        )


@click.group("list")
def list_broker() -> None:
    """Show what the broker knows."""


@list_broker.command()
@pass_session
def bindings(session: Session, /) -> None:
    """Show the queues that the app and its broker know, and what they are bound to."""
    queues = session.app.amqp.queues
    others = dict.fromkeys(session.existing().publisher.queues())
    rows = [
        [queue.name, to.name, to.type, key]
        for queue in queues.values()
        for to, key, _ in bound(queue)
    ]
    rows += [[name, "", "direct", name] for name in others if name not in queues]
    shown = [[printable(str(cell)) for cell in row] for row in rows]
    click.echo(table(["queue", "exchange", "type", "routing key"], shown))


def own_queues(session: Session) -> list[str]:
    """Those that the app's workers serve."""
    return list(session.app.amqp.queues.consume_from)


@click.command()
@click.option(
    "-Q",
    "--queues",
    "names",
    metavar="NAME,...",
    type=Names(),
    help="These; default: those that the app's workers serve.",
)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@pass_session
def purge(session: Session, /, names: list[str] | None, force: bool) -> None:
    """Drop what is ready and scheduled. What runs, and dead letters, stay."""
    broker = session.existing().publisher
    # Never all at the broker, which may hold other people's.
    picked = names or own_queues(session)
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
    """Show dead letters and their reasons, the newest of QUEUE."""
    letters = session.existing().publisher.dead(queue, limit)
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
            f"{letter['key']}  {at}  {printable(letter['task'] or '-')}[{printable(letter['id'] or '-')}]  "
            f"redelivered {letter['redeliveries']} times"
        )
        click.echo(f"    {letter['reason']}")
        click.echo(f"    {letter['raw'][:SHOWN]!r}")


@dead.command("replay")
@click.argument("queue")
@click.argument("keys", nargs=-1)
@pass_session
def replay_dead(session: Session, /, queue: str, keys: tuple[str, ...]) -> None:
    """Execute dead letters again.

    KEYS are the first column of `dead list QUEUE`; without any, all of the queue are put back.
    """
    count = session.existing().publisher.replay(queue, list(keys) or None)
    check_found(queue, keys, count)
    click.echo(f"replayed {count} messages into `{queue}`")


@dead.command("drop")
@click.argument("queue")
@click.argument("keys", nargs=-1)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@pass_session
def drop_dead(session: Session, /, queue: str, keys: tuple[str, ...], force: bool) -> None:
    """Drop dead letters for good.

    KEYS are the first column of `dead list QUEUE`; without any, all of the queue are dropped.
    """
    if not force:
        which = f"{len(keys)} dead letters" if keys else "every dead letter"
        click.confirm(f"This drops {which} of `{queue}` for good. Go on?", abort=True, err=True)
    count = session.existing().publisher.discard(queue, list(keys) or None)
    check_found(queue, keys, count)
    click.echo(f"dropped {count} messages of `{queue}`")


def check_found(queue: str, keys: tuple[str, ...], count: int) -> None:
    """Says that keys were named which are not there; exit code 1."""
    named = len(set(keys))
    if count < named:
        raise click.ClickException(
            f"only {count} of {named} keys are dead letters of `{queue}`: expected keys from the first column of "
            f"`dead list {queue}`"
        )
