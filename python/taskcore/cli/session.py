"""What the options in front of a command say, handed to every command as `ctx.obj`."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import click

from taskcore.cli.find import find_app

if TYPE_CHECKING:
    from taskcore.app import Taskcore


@dataclass
class Session:
    """The app that `-A` names, found on first use, with the broker and result store of the command line."""

    spec: str | None
    broker: str | None
    results: str | None

    @cached_property
    def app(self) -> "Taskcore":
        """The app.

        Raises:
            click.UsageError: none was named, or none is where it was said to be.
        """
        if self.spec is None:
            raise click.UsageError(
                "no app given: name its module in front of the command, as in `taskcore -A proj worker`"
            )
        app = find_app(self.spec)
        changed = {"broker_url": self.broker, "result_backend": self.results}
        app.conf.update({name: value for name, value in changed.items() if value is not None})
        return app


pass_session = click.make_pass_decorator(Session)
