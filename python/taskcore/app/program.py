"""An app as a program of its own: `app.start()` and `app.worker_main()` in a script, the queues that
it serves, classes that belong to it, and what a report of an error should say of it."""

from __future__ import annotations

from sys import argv as program_argv

import taskcore
from taskcore.typed import TYPE_CHECKING, Any, Sequence

if TYPE_CHECKING:
    from taskcore.app.amqp import AMQP
    from taskcore.config.conf import Config


class Program:
    """What an app does of the command line, and of classes of others."""

    if TYPE_CHECKING:
        conf: Config

        @property
        def amqp(self) -> AMQP: ...

    def start(self, argv: Sequence[str] | None = None) -> int:
        """Runs a command for this app, as `taskcore` does in a shell; gives the exit code.

        Args:
            argv: the words behind the name of the program, as in `["beat", "-l", "info"]`; default:
                those that this process was started with.
        Raises:
            click.ClickException: the words are wrong, or the command failed.
        """
        words = program_argv[1:] if argv is None else list(argv)
        # Asked of the package: the command line stands above the app, and is loaded only for this.
        code = taskcore.cli.main.main(words, prog_name="taskcore", standalone_mode=False, obj=self)
        return code or 0

    def worker_main(self, argv: Sequence[str] | None = None) -> int:
        """`start` for a worker, as in `app.worker_main(["worker", "-l", "info"])`.

        Raises:
            ValueError: `worker` is not among the words.
        """
        words = program_argv[1:] if argv is None else list(argv)
        if "worker" not in words:
            raise ValueError(
                f"argv is `{words}`: expected the command `worker` in it, as in "
                '["worker", "-l", "info"]; `app.start(argv)` runs other commands'
            )
        return self.start(words)

    def select_queues(self, queues: str | Sequence[str] | None = None) -> None:
        """Has workers of this app serve these queues alone; `-Q` says otherwise.

        Args:
            queues: names; None or none: as before.
        Raises:
            KeyError: a queue is not defined, and missing ones are not made.
        """
        self.amqp.queues.select(queues)

    def subclass_with_self(self, Class: Any, name: str | None = None, **options: Any) -> type:  # noqa: N803 - Celery's name
        """A subclass of a class, with this app in an attribute.

        Args:
            Class: the class, or where it is, as `module:name`.
            name: of the subclass; default: as the class.
            options: `attribute` (default `app`), `reverse` (what the current app has under this
                path makes instances from pickles, with the arguments that `__reduce_args__` gives;
                default: the name of the class), `keep_reduce` (pickle as the class does), and
                attributes of the subclass.
        """
        from taskcore.app.subclass import subclass_with_app

        return subclass_with_app(self, Class, {"name": name, **options})

    def bugreport(self) -> str:
        """Versions, system and settings for a report of an error, without passwords."""
        from taskcore.app.report import bugreport

        return bugreport(self)
