"""The hooks of a task: methods that do nothing, for subclasses and for the decorator.

A plan of execution has a step for a hook only where it is overridden.
"""

from __future__ import annotations

from taskcore.typed import Any


class Hooks:
    """What a subclass may say about the life of a call, in the order in which it is asked."""

    def on_bound(self, app: Any) -> None:
        """Called when the task is tied to an app; for subclasses."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Runs before the body; what it raises fails the task."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Runs after the body has returned."""

    def on_failure(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Runs when the task has failed."""

    def on_retry(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Runs when the task will run again."""

    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str | None:
        """The name that a call shows in logs and monitors; None: the task's own."""
        return None

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Runs last, however the execution ended."""
