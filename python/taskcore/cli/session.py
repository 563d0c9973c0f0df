"""What the options in front of a command say, handed to every command as `ctx.obj`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import click

from taskcore import unsupported
from taskcore.cli.find_app import find_app
from taskcore.cli.tracebacks import traceback_of
from taskcore.config.validators import database_file

if TYPE_CHECKING:
    from taskcore.app import Taskcore


@dataclass
class Session:
    """The app that `-A` names, found on first use, with the broker and results of the command line."""

    spec: str | None
    broker: str | None
    results: str | None
    given: "Taskcore | None" = None
    """The app that runs the command line, where a program does; `-A` wins."""
    config: str | None = None
    """A module with settings, over those that the app itself names."""
    quiet: bool = False

    @property
    def names_app(self) -> bool:
        """Whether there is an app to ask."""
        return self.spec is not None or self.given is not None

    @cached_property
    def app(self) -> "Taskcore":
        """The app, its URLs checked.

        Raises:
            click.UsageError: none was named, or none is where it was said to be.
            click.ClickException: importing it failed, or a URL is malformed.
        """
        if self.spec is not None:
            app = self._find(self.spec)
        elif self.given is not None:
            app = self.given
        else:
            raise click.UsageError(
                "no app given: name its module in front of the command, "
                "as in `taskcore -A proj worker`"
            )
        changed = {"broker_url": self.broker, "result_backend": self.results}
        if self.config is not None:
            app.config_from_object(self.config, force=True)
        app.conf.update({name: value for name, value in changed.items() if value is not None})
        try:
            _ = app.publisher, app.results_or_none
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        return app

    def existing(self) -> "Taskcore":
        """The app, for a command that looks at what is there and must not make a database of a path
        that was mistyped.

        Raises:
            click.ClickException: the broker is a database file that does not exist.
        """
        app = self.app
        file = database_file(app.conf["broker_url"])
        if file is not None and not os.path.exists(file):
            raise click.ClickException(
                f"there is no database `{file}`: nothing has been published there; check the broker's URL, "
                "and the folder that a relative path begins in"
            )
        return app

    @staticmethod
    def _find(spec: str) -> "Taskcore":
        try:
            return find_app(spec)
        except click.UsageError:
            raise
        except Exception as error:
            # Somebody else's mistake: the traceback is what they need.
            click.echo(traceback_of(error), err=True, nl=False)
            raise click.ClickException(f"importing `{spec}` failed, see above") from error


@contextmanager
def explained(options: dict[str, str]) -> Iterator[None]:
    """Says of an option that does not exist what to do instead, if it is one of Celery's `options`."""
    try:
        yield
    except click.NoSuchOption as error:
        sentence = unsupported.message(error.option_name, options)
        if sentence is None:
            raise
        raise click.UsageError(sentence, error.ctx) from error


pass_session = click.make_pass_decorator(Session)
