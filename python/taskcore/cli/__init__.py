"""The command line: `taskcore -A proj worker`, `beat`, `call`, `result`, `queues`, `purge`, `dead`,
`status`, `inspect`, `control`, `health`, `events` (also `top`), `report`, `shell`,
`list`, `upgrade`, `celery`.

Options in front of the command say which app and, where they differ from its configuration, which
broker and result store. The app is imported when a command needs it, so that `--help` works
anywhere. An error that taskcore raises on purpose is one sentence on standard error and exit code
1; a wrong command line is exit code 2, as click does it.
"""

import os
from typing import Any

import click

from taskcore import __version__, unsupported
from taskcore.cli.as_celery import as_celery
from taskcore.cli.beat import beat
from taskcore.cli.calls import call, result
from taskcore.cli.events import events
from taskcore.cli.health import health
from taskcore.cli.queues import dead, list_broker, purge, queues
from taskcore.cli.remote import control_workers, inspect_workers, status
from taskcore.cli.report import report
from taskcore.cli.session import Session, explained
from taskcore.cli.shell import shell
from taskcore.cli.tracebacks import traceback_of
from taskcore.cli.upgrade import upgrade
from taskcore.cli.worker import without, worker
from taskcore.exceptions import TaskcoreError

__all__ = ["main"]


class Commands(click.Group):
    """A group whose commands end with a sentence, not a traceback, for the errors that taskcore
    raises on purpose; Celery's commands and options that are not here are answered with what to do
    instead."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with explained(unsupported.PROGRAM_OPTIONS):
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if sentence := unsupported.message(args[0], unsupported.COMMANDS):
            raise click.UsageError(sentence, ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TaskcoreError as error:
            raise click.ClickException(str(error)) from error
        except click.NoSuchOption as error:
            ours = {name for option in self.params for name in option.opts}
            if error.option_name not in ours:
                raise
            raise click.UsageError(
                f"`{error.option_name}` stands in front of the command, as in "
                f"`taskcore {error.option_name} ... {ctx.invoked_subcommand}`",
                error.ctx,
            ) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            click.echo(traceback_of(error), err=True, nl=False)
            raise click.ClickException(f"{type(error).__name__}, see above") from error


def change_folder(_ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
    """Before anything is looked for."""
    if path is not None:
        os.chdir(path)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-A",
    "--app",
    "spec",
    metavar="MODULE[:ATTRIBUTE]",
    help="Where the app is: `proj`, `proj.queue`, `proj:app`.",
)
@click.option("-b", "--broker", metavar="URL", help="Broker, instead of the app's own.")
@click.option(
    "--result-backend", "results", metavar="URL", help="Result store, instead of the app's own."
)
@click.option(
    "--config",
    metavar="MODULE",
    help="Settings over those that the app itself reads from a module.",
)
@click.option(
    "--workdir",
    metavar="PATH",
    type=click.Path(exists=True, file_okay=False),
    is_eager=True,
    expose_value=False,
    callback=change_folder,
    help="Change into this folder first.",
)
@click.option("-q", "--quiet", is_flag=True, help="No banner.")
@without("-C", "--no-color")
@without("--skip-checks")
@click.version_option(__version__, prog_name="taskcore")
@click.pass_context
def main(ctx: click.Context, /, **options: Any) -> None:
    """A distributed task queue with a Rust core."""
    ctx.obj = Session(**options, given=ctx.obj)


for command in (
    worker,
    beat,
    call,
    result,
    queues,
    purge,
    dead,
    status,
    inspect_workers,
    control_workers,
    health,
    events,
    report,
    shell,
    list_broker,
    upgrade,
    as_celery,
):
    main.add_command(command)
main.add_command(events, "top")
