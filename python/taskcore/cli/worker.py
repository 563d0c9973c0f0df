"""`taskcore worker`: reads its options, boots the worker, shows what was started.

The command line wins over the app's configuration, and what neither says is a default of
`taskcore.config.settings`. The banner goes to standard output and everything logged to standard
error, so that a log holds nothing but log lines.
"""

import logging
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import click

from taskcore import unsupported
from taskcore.cli.session import Session, explained, pass_session
from taskcore.cli.values import Names, Text
from taskcore.config.command_line import parse
from taskcore.contrib import django
from taskcore.exceptions import ImproperlyConfigured
from taskcore.worker.boot import WorkerOptions, boot

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = ("debug", "info", "warning", "error", "critical", "fatal")
POOLS = ("prefork", "processes", "asyncio", "threads", "solo")


def node_name(pattern: str, host: str) -> str:
    """`%h` is the host, `%n` its first part, `%d` the rest; a name without `@` gets the host behind
    it."""
    first, _, domain = host.partition(".")
    name = pattern if "@" in pattern else f"{pattern}@%h"
    return name.replace("%h", host).replace("%n", first).replace("%d", domain)


def concurrency(config: Any) -> str:
    """How many tasks may run at the same time."""
    if config.autoscale is None:
        each = f" x {config.coroutines}" if config.pool == "asyncio" else ""
        return f"{config.concurrency}{each}"
    return f"{config.autoscale[0]} to {config.autoscale[1]}"


def banner(app: Any, config: Any) -> str:
    """What was started, for the eyes of whoever started it."""
    names = sorted(name for name in app.tasks if not name.startswith(("celery.", "taskcore.")))
    lines = [
        f"taskcore {config.hostname}",
        f"  app          {app.main or type(app).__name__}",
        f"  broker       {config.redacted_broker_url}",
        f"  results      {config.redacted_result_url or 'not stored'}",
        f"  concurrency  {concurrency(config)} ({config.pool})",
        f"  queues       {', '.join(config.queues)}",
        *([f"  http         {config.http}"] if config.http else []),
        f"  tasks        {len(names)}",
        *[f"    {name}" for name in names],
    ]
    return "\n".join(lines)


def ready(config: Any) -> str:
    """That it consumes, and where it is asked for its health."""
    return f"{config.hostname} ready" + (f", health at {config.http}" if config.http else "")


class WorkerCommand(click.Command):
    """Answers Celery's options that are not here."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with explained(unsupported.WORKER_OPTIONS):
            return super().parse_args(ctx, args)


class Pool(click.Choice[str]):
    """The name of a pool; answers Celery's that are not here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """`processes` is another name of prefork."""
        missing = unsupported.message(value, unsupported.POOLS)
        if missing is not None:
            self.fail(missing, param, ctx)
        return {"processes": "prefork"}.get(value) or super().convert(value, param, ctx)


class Bounds(click.ParamType):  # type: ignore[type-arg]
    """The most and the fewest; the fewest are 0 when nobody says it, as in Celery."""

    name = "bounds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A pair of numbers; what they may be is the worker's to say."""
        most, _, fewest = str(value).partition(",")
        try:
            return int(most), int(fewest or 0)
        except ValueError:
            self.fail(f"`{value}`, expected MAX,MIN, as in 10,3", param, ctx)


def without(*names: str) -> Callable[[F], F]:
    """An option that turns off what taskcore does not have: it is as it asks already."""
    return click.option(*names, is_flag=True, hidden=True, expose_value=False)


@click.command(cls=WorkerCommand)
@click.option(
    "-c",
    "--concurrency",
    metavar="N",
    type=click.IntRange(1),
    help="Tasks at the same time; default: cores.",
)
@click.option(
    "-P",
    "--pool",
    type=Pool(POOLS),
    help="Where tasks run; default: prefork, which `processes` is another name of.",
)
@click.option(
    "--coroutines",
    metavar="N",
    type=click.IntRange(1),
    help="Calls at the same time in each process of the pool asyncio; default: 100.",
)
@click.option(
    "-Q",
    "--queues",
    metavar="NAME,...",
    type=Names(),
    help="Queues to serve; default: the app's own.",
)
@click.option(
    "-X",
    "--exclude-queues",
    metavar="NAME,...",
    type=Names(),
    help="Of those queues, the ones not to serve.",
)
@click.option("--purge", "--discard", is_flag=True, help="Drop what waits in its queues first.")
@click.option(
    "-I",
    "--include",
    metavar="MODULE,...",
    type=Names(),
    help="Modules to import, beside those that the app names.",
)
@click.option(
    "-n",
    "--hostname",
    metavar="NAME",
    type=Text(),
    help="Name of this worker; %h host, %n its first part, %d its domain.",
)
@click.option(
    "-l",
    "--loglevel",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="warning",
    show_default=True,
    help="At `info` every task received and finished is a line.",
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
    help="A file that says the number of its process.",
)
@click.option(
    "--prefetch-multiplier",
    metavar="N",
    type=click.IntRange(0),
    help="Messages claimed ahead per slot; 0: no limit.",
)
@click.option("--disable-prefetch", is_flag=True, help="Claim only what can start at once.")
@click.option(
    "--max-tasks-per-child",
    metavar="N",
    type=click.IntRange(1),
    help="Replace a process after so many tasks.",
)
@click.option(
    "--max-memory-per-child",
    metavar="KIB",
    type=click.IntRange(1),
    help="Replace a process that has taken more memory, after its task.",
)
@click.option(
    "--autoscale",
    metavar="MAX,MIN",
    type=Bounds(),
    help="As many tasks at the same time as there are, within bounds.",
)
@click.option(
    "--time-limit",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="Kill what runs longer.",
)
@click.option(
    "--soft-time-limit",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="Raise SoftTimeLimitExceeded in what runs longer.",
)
@click.option("-B", "--beat", is_flag=True, help="Also send periodic tasks; any number may.")
@click.option(
    "-s",
    "--schedule-filename",
    "--schedule",
    "beat_schedule",
    metavar="PATH",
    type=click.Path(dir_okay=False),
    help="The file of schedulers that have one.",
)
@click.option(
    "--scheduler", "beat_scheduler", metavar="MODULE:NAME", help="Class of the scheduler."
)
@click.option(
    "-E",
    "--task-events",
    "--events",
    is_flag=True,
    default=None,
    help="Tell monitors what happens to tasks.",
)
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Serve /live, /ready and /metrics there; the host is 127.0.0.1 if only a port is given.",
)
@click.option("-q", "--quiet", is_flag=True, help="No banner.")
@without("--without-gossip")
@without("--without-mingle")
@click.option("--without-heartbeat", is_flag=True, help="Do not tell monitors that it is there.")
@click.option("-S", "--statedb", metavar="PATH", hidden=True, expose_value=False)
@click.option(
    "-O", "--optimization", type=click.Choice(["default", "fair"]), hidden=True, expose_value=False
)
@click.argument("changed", metavar="[-- SETTING=VALUE ...]", nargs=-1)
@pass_session
def worker(
    session: Session,
    /,
    queues: list[str] | None,
    hostname: str | None,
    loglevel: str,
    quiet: bool,
    include: list[str] | None,
    changed: tuple[str, ...],
    **options: Any,
) -> None:
    """Start a worker.

    The first SIGTERM or SIGINT stops it warm: running tasks finish, claimed ones that have not
    begun go back in order. The second stops it cold.
    """
    app = session.app
    try:
        app.conf.update(parse(changed, "worker"))
    except ImproperlyConfigured as error:
        raise click.UsageError(str(error)) from error
    if include is not None:
        app.conf.update(include=[*app.conf["include"], *include])
    quiet = quiet or session.quiet
    if options["coroutines"] and (options["pool"] or app.conf["worker_pool"]) != "asyncio":
        raise click.UsageError("--coroutines is for the pool asyncio: add -P asyncio")
    if not options["beat"] and (options["beat_schedule"] or options["beat_scheduler"]):
        click.echo("--schedule and --scheduler have no effect: add -B for a beat", err=True)
    django.connect()
    for name in ("logfile", "pidfile"):
        options[name] = options[name] or app.conf[f"worker_{name}"]
    level = logging.getLevelNamesMapping()[loglevel.upper()]
    # At `info` the log says it, on the same terminal.
    silent = quiet or options["logfile"] or level <= logging.INFO
    if options["autoscale"] and options["concurrency"]:
        click.echo("-c has no effect: --autoscale says how many tasks run at a time", err=True)
    chosen = WorkerOptions(
        queues=queues,
        hostname=node_name(hostname, socket.gethostname()) if hostname is not None else None,
        loglevel=level,
        on_start=None if quiet else lambda config: click.echo(banner(app, config)),
        on_ready=None if silent else lambda config: click.echo(ready(config)),
        **options,
    )
    raise click.exceptions.Exit(boot(app, chosen))
