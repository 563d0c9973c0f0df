"""An app as a program of its own: `app.start()` and `app.worker_main()` in a script, and what a
report of an error should say of it."""

from __future__ import annotations

from sys import argv as program_argv

import taskcore
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Program:
    """What an app does of the command line."""

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

    def bugreport(self) -> str:
        """Versions, system and settings for a report of an error, without passwords."""
        from taskcore.app.report import bugreport

        return bugreport(self)
