"""`taskcore shell`: a Python prompt with the app, its tasks and the words of workflows."""

import importlib
from collections.abc import Callable
from typing import Any

import click

import taskcore
from taskcore import unsupported
from taskcore.cli.session import Session, explained, pass_session

_WORDS = ("Task", "chain", "chord", "chunks", "group", "signature", "subtask", "xmap", "xstarmap")


class ShellCommand(click.Command):
    """Answers Celery's options that are not here."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with explained(unsupported.SHELL_OPTIONS):
            return super().parse_args(ctx, args)


@click.command(cls=ShellCommand)
@click.option("-I", "--ipython", "program", flag_value="ipython", help="IPython.")
@click.option("-B", "--bpython", "program", flag_value="bpython", help="bpython.")
@click.option("--python", "program", flag_value="python", help="Python's own prompt.")
@click.option("-T", "--without-tasks", is_flag=True, help="Do not name the tasks.")
@pass_session
def shell(session: Session, /, program: str | None, without_tasks: bool) -> None:
    """Open a Python prompt with the app as `app` and `celery`, its tasks by name, and `group`,
    `chain` and the like; in the first of IPython, bpython and Python that is installed."""
    app = session.app
    app.import_modules()
    app.finalize()
    names: dict[str, Any] = {"app": app, "celery": app}
    names |= {word: getattr(taskcore, word) for word in _WORDS}
    if not without_tasks:
        names |= {
            task.__name__: task
            for task in app.tasks.values()
            if not task.name.startswith(("celery.", "taskcore."))
        }
    for each in [program] if program else _PROMPTS:
        try:
            prompt = _PROMPTS[each](names)
        except ModuleNotFoundError as error:
            if program:
                raise click.UsageError(f"{program} is not installed: install it") from error
            continue
        prompt()
        return


def _ipython(names: dict[str, Any]) -> Callable[[], object]:
    start = importlib.import_module("IPython").start_ipython
    return lambda: start(argv=[], user_ns=names)


def _bpython(names: dict[str, Any]) -> Callable[[], object]:
    embed = importlib.import_module("bpython").embed
    return lambda: embed(names)


def _python(names: dict[str, Any]) -> Callable[[], object]:
    import code

    try:
        import readline
        import rlcompleter
    except ModuleNotFoundError:
        pass  # a system without it has no completion
    else:
        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab:complete")
    return lambda: code.interact(local=names)


_PROMPTS = {"ipython": _ipython, "bpython": _bpython, "python": _python}
"""In the order in which they are tried."""
