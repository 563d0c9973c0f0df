"""`call` publishes one task by name; `result` shows what became of it."""

import datetime as dt
from typing import Any

import click

from taskcore.cli.session import Session, pass_session
from taskcore.cli.values import Json, SecondsOrWhen, Text, When
from taskcore.exceptions import TimeoutError as NotReady
from taskcore.result import AsyncResult
from taskcore.utils import hint


@click.command()
@click.argument("name")
@click.option(
    "-a",
    "--args",
    "positional",
    metavar="JSON",
    type=Json(list, "a JSON list, as in `[1, 2]`"),
    default="[]",
    help="Positional arguments, a JSON list.",
)
@click.option(
    "-k",
    "--kwargs",
    "keywords",
    metavar="JSON",
    type=Json(dict, 'a JSON object, as in `{"x": 1}`'),
    default="{}",
    help="Keyword arguments, a JSON object.",
)
@click.option(
    "--countdown", metavar="SECONDS", type=float, help="Run it that many seconds from now."
)
@click.option("--eta", metavar="TIME", type=When(), help="Run it then (ISO 8601).")
@click.option(
    "--expires", metavar="SECONDS|TIME", type=SecondsOrWhen(), help="Do not run it after that."
)
@click.option("--queue", metavar="NAME", help="Queue, instead of the task's own.")
@click.option("--priority", metavar="0-9", type=click.IntRange(0, 9), help="0 is served first.")
@click.option(
    "--serializer", metavar="NAME", help="How the arguments are written: json, msgpack, ..."
)
@pass_session
def call(
    session: Session, /, name: str, positional: list[Any], keywords: dict[str, Any], **options: Any
) -> None:
    """Publish the task NAME and print its id.

    A task of the app is called with its own options, and its arguments are checked. Any other name
    is sent as it is.
    """
    if options["countdown"] is not None and options["eta"] is not None:
        raise click.UsageError("`--countdown` and `--eta` both say when: give one of them")
    chosen = {option: value for option, value in options.items() if value is not None}
    app = session.app
    app.import_modules()
    task = app.tasks.get(name)
    try:
        if task is None:
            click.echo(
                f"`{name}` is no task of this app{hint(name, app.tasks)}; its name is sent as it is",
                err=True,
            )
            published = app.send_task(name, args=positional, kwargs=keywords, **chosen)
        else:
            published = task.apply_async(positional, keywords, **chosen)
    except (TypeError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(published.id)


@click.command()
@click.argument("task_id", metavar="ID", type=Text())
@click.option(
    "--traceback", is_flag=True, help="Show the traceback of a failure instead of the value."
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=float,
    help="Wait that long for it; otherwise as long as it takes.",
)
@pass_session
def result(session: Session, /, task_id: str, traceback: bool, timeout: float | None) -> None:
    """Wait for the result of the task ID and print it.

    Exit code 1 when the task failed; its exception is printed then.
    """
    async_result: AsyncResult[Any] = AsyncResult(task_id, app=session.app)
    try:
        value = async_result.get(timeout=timeout, propagate=False)
    except NotReady as error:
        raise click.ClickException(
            f"no result of `{task_id}` after {timeout:g} s; its state is {async_result.state}"
        ) from error
    if traceback:
        click.echo(async_result.traceback or "no traceback")
    elif async_result.failed() or isinstance(value, BaseException):
        click.echo(f"{type(value).__name__}: {value}", err=True)
    else:
        click.echo(value if isinstance(value, str | dt.datetime) else repr(value))
    if not async_result.successful():
        raise click.exceptions.Exit(1)
