"""`taskcore beat`: runs a beat, and looks after the entries that it sends.

Schedules are imported when a command needs them: every other command imports this file.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from taskcore import unsupported
from taskcore.cli import daemon
from taskcore.cli.session import Session, explained, pass_session
from taskcore.cli.values import Json
from taskcore.cli.worker import LEVELS, node_name
from taskcore.contrib import django
from taskcore.exceptions import ImproperlyConfigured
from taskcore.worker import log_setup

if TYPE_CHECKING:
    from taskcore.beat import Entries


class BeatGroup(click.Group):
    """Answers Celery's options that are not here."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with explained(unsupported.BEAT_OPTIONS):
            return super().parse_args(ctx, args)


@click.group(cls=BeatGroup, invoke_without_command=True)
@click.option(
    "-s",
    "--schedule",
    metavar="PATH",
    type=click.Path(dir_okay=False),
    help="The file of schedulers that have one; the default one has none.",
)
@click.option("-S", "--scheduler", metavar="MODULE:NAME", help="Class of the scheduler.")
@click.option(
    "--max-interval",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="Sleep at most so long.",
)
@click.option(
    "-l",
    "--loglevel",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="warning",
    show_default=True,
    help="At `info` every task that is sent is a line.",
)
@click.option(
    "-f",
    "--logfile",
    metavar="PATH",
    type=click.Path(dir_okay=False),
    help="Log there, not to standard error.",
)
@click.option(
    "--pidfile",
    metavar="PATH",
    type=click.Path(dir_okay=False),
    help="Write the number of the process there, and refuse to run twice.",
)
@click.option(
    "--enable-remote-control/--no-enable-remote-control",
    "remote_control",
    default=None,
    help="Answer `inspect ping`, for probes.",
)
@click.option(
    "-n",
    "--hostname",
    metavar="NAME",
    help="The name to answer by, as in beat2@%h. Default: celerybeat@%h.",
)
@click.option(
    "--detach",
    is_flag=True,
    help="Run in the background, once what can be wrong is known not to be.",
)
@click.option("--uid", metavar="USER", help="Become this user, by name or number; root may.")
@click.option("--gid", metavar="GROUP", help="Become one of this group.")
@click.option("--umask", metavar="OCTAL", help="Rights that files do not get, as in 022.")
@click.option(
    "--workdir",
    metavar="PATH",
    type=click.Path(exists=True, file_okay=False),
    help="Run in this folder; other paths are relative to it.",
)
@click.option("-q", "--quiet", is_flag=True, help="No banner.")
@pass_session
@click.pass_context
def beat(
    ctx: click.Context,
    session: Session,
    /,
    loglevel: str,
    logfile: str | None,
    **options: Any,
) -> None:
    """Send periodic tasks when they are due.

    Any number may run at once: one leads, and another takes over when that is gone. Without a
    command a beat runs until SIGTERM or SIGINT; the commands look after the entries.
    """
    if ctx.invoked_subcommand is not None:
        return
    app = session.app
    begun = _settle(app, options)
    options["quiet"] = options["quiet"] or session.quiet
    if options["hostname"] is not None:
        # As in Celery, a name without `@` is that of the machine.
        name = options["hostname"]
        pattern = name if "@" in name else f"celerybeat@{name}"
        options["hostname"] = node_name(pattern, socket.gethostname())
    django.set_up()
    level = logging.getLevelNamesMapping()[loglevel.upper()]
    if begun is not None and not (logfile or app.conf["beat_logfile"]):
        click.echo("a beat in the background has nowhere to log to: add --logfile", err=True)
    path = log_setup.path_of(logfile or app.conf["beat_logfile"], f"beat@{socket.gethostname()}")
    from taskcore.beat.program import Beat

    def set_up_logging() -> None:
        log_setup.set_up(app, level, path)

    try:
        Beat(app, set_up_logging=set_up_logging, on_start=begun, **options).run()
    except (ImproperlyConfigured, FileExistsError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc


def _settle(app: Any, options: dict[str, Any]) -> Callable[[], object] | None:
    """Goes where the program is to run, and becomes who is to run it; what is called once it has
    begun."""
    workdir = options.pop("workdir")
    if workdir is not None:
        os.chdir(workdir)
    who = {name: options.pop(name) or app.conf[f"beat_{name}"] for name in ("uid", "gid", "umask")}
    begun = daemon.detach() if options.pop("detach") else None
    try:
        daemon.become(**who)
    except ImproperlyConfigured as exc:
        raise click.ClickException(str(exc)) from exc
    return begun


@beat.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@pass_session
def list_(session: Session, /, as_json: bool) -> None:
    """Show the entries."""
    listed = _entries(session).list()
    for entry in listed:
        if as_json:
            click.echo(json.dumps({**entry._asdict(), **entry.said, "said": None}, default=str))
        else:
            last, due = _shown(entry.last_run_at), _shown(entry.next_due)
            state = "paused" if entry.paused else f"next {due}"
            click.echo(
                f"{entry.name}  {entry.task}  {entry.schedule}  {state}  last {last}  runs {entry.total_run_count}"
            )
    if not listed and not as_json:
        click.echo("no entries: those of `beat_schedule` are here once a beat has run")


@beat.command()
@click.argument("name")
@click.argument("task")
@click.option("--every", metavar="SECONDS", type=click.FloatRange(0, min_open=True))
@click.option("--crontab", "cron", metavar="FIELDS", help='Five fields: "30 7 * * mon-fri".')
@click.option("--solar", "sun", metavar="EVENT,LAT,LON", help='As in "sunset,59.9,10.7".')
@click.option("--timezone", metavar="NAME", help="Of the crontab; default: the app's.")
@click.option("--args", metavar="JSON", type=Json(list, "a list"), help="Positional arguments.")
@click.option("--kwargs", metavar="JSON", type=Json(dict, "an object"), help="Keyword arguments.")
@click.option("--queue", metavar="NAME", help="Queue to publish to.")
@click.option(
    "--missed",
    type=click.Choice(["once", "skip", "all"]),
    default="once",
    show_default=True,
    help="What is sent of the times at which no beat ran.",
)
@click.option(
    "--jitter",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=0.0,
    help="Send up to so much later.",
)
@pass_session
def add(
    session: Session,
    /,
    name: str,
    task: str,
    every: float | None,
    cron: str | None,
    sun: str | None,
    timezone: str | None,
    args: list[Any] | None,
    kwargs: dict[str, Any] | None,
    queue: str | None,
    **rules: Any,
) -> None:
    """Add an entry, or change the one of that NAME: it sends TASK."""
    with _said():
        when = _schedule(every, cron, sun, timezone)
        options = {} if queue is None else {"queue": queue}
        _entries(session).add(name, task, when, args or (), kwargs, options, **rules)


def _command(method: str, text: str) -> Callable[..., Any]:
    """A command that does something with one entry."""

    @beat.command(method, help=text)
    @click.argument("name")
    @pass_session
    def command(session: Session, /, name: str) -> None:
        with _said():
            answer = getattr(_entries(session), method)(name)
        if answer is not None:
            click.echo(answer.id)

    return command


_command("pause", "Have an entry not be sent until `resume`.")
_command("resume", "Let an entry that is paused go on.")
_command("run", "Send an entry now, beside its due times; shows the id of the task.")
_command("remove", "Remove an entry that was added.")


def _entries(session: Session) -> Entries:
    app = session.app
    app.import_modules()
    app.finalize()
    from taskcore.beat import Entries

    return Entries(app)


@contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except KeyError as exc:
        raise click.ClickException(str(exc.args[0])) from exc
    except (ValueError, TypeError, ImproperlyConfigured) as exc:
        raise click.ClickException(str(exc)) from exc


def _schedule(every: float | None, cron: str | None, sun: str | None, zone: str | None) -> Any:
    if sum(value is not None for value in (every, cron, sun)) != 1:
        raise click.UsageError("when is it due: expected one of --every, --crontab and --solar")
    if zone is not None and cron is None:
        raise click.UsageError("--timezone is the zone of a --crontab: add one, or leave it out")
    from taskcore.schedules import crontab, schedule, solar

    if every is not None:
        return schedule(every)
    if cron is not None:
        made = crontab.from_string(cron)
        fields = (made._orig_minute, made._orig_hour, made._orig_day_of_week)
        return crontab(*fields, made._orig_day_of_month, made._orig_month_of_year, tz=zone)
    parts = (sun or "").split(",")
    if len(parts) != 3:
        raise ValueError(f"--solar is `{sun}`: expected event, latitude and longitude")
    return solar(parts[0], float(parts[1]), float(parts[2]))


def _shown(at: datetime | None) -> str:
    return "-" if at is None else at.isoformat(timespec="seconds")
