"""Periodic tasks that a program adds to its app."""

from __future__ import annotations

from taskcore.exceptions import TaskcoreWarning
from taskcore.typed import TYPE_CHECKING, Any, Mapping, Sequence
from taskcore.utils import symbol_by_name, warn

if TYPE_CHECKING:
    from taskcore.config.conf import Config


class _Added:
    """An entry that the program has added."""

    __slots__ = ("entry", "key", "shown_in")

    def __init__(self, key: str, entry: dict[str, Any]) -> None:
        self.key = key
        self.entry = entry
        self.shown_in: Any = None
        """The schedule that it was put into."""


class Periodic:
    """The part of an app that knows periodic tasks."""

    if TYPE_CHECKING:
        conf: Config
        _periodic: list[_Added]

        def signature(self, *args: Any, **kwargs: Any) -> Any: ...

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Adds a task to `beat_schedule`; gives the name of the entry. It stays there when the program
        sets the schedule later, until the app is complete.

        Args:
            schedule: seconds, a timedelta, or a schedule.
            sig: a signature, or a task.
            args, kwargs: arguments, behind those of the signature.
            name: name of the entry; default: the call in words. Of two entries of one name the second
                counts.
            opts: as for `apply_async`; also `missed` and `jitter`, see `taskcore.beat.ScheduleEntry`.
        Warns:
            TaskcoreWarning: without a `name`, and there is an entry of the same call.
        """
        if hasattr(sig, "clone"):
            made = sig.clone(args, dict(kwargs or {}))
        else:
            made = self.signature(sig.name, args, dict(kwargs or {}))
        own: dict[str, Any] = {key: opts.pop(key) for key in ("missed", "jitter") if key in opts}
        entry: dict[str, Any] = {
            "schedule": schedule,
            "task": made["task"],
            "args": made["args"],
            "kwargs": made["kwargs"],
            "options": {**made["options"], **opts},
            **own,
        }
        key = name or repr(made)
        added: list[_Added] = vars(self).setdefault("_periodic", [])
        known = any(one.key == key for one in added)
        if name is None and (known or (not self.conf.waits and key in self.conf["beat_schedule"])):
            warn(
                f"periodic task `{key}` takes the place of another of the same call: pass a `name` to keep both",
                TaskcoreWarning,
            )
        added.append(_Added(key, entry))
        self._show_periodic()
        return key

    def _show_periodic(self) -> None:
        """Puts what was added into the schedule, also when the program has set another since. While a
        module is still to be read for its settings, the schedule may come from there."""
        added: list[_Added] = vars(self).get("_periodic", [])
        if not added or self.conf.waits:
            return
        schedule = self.conf["beat_schedule"]
        for one in added:
            if one.shown_in is not schedule:
                schedule[one.key], one.shown_in = one.entry, schedule
        if "_incomplete" not in vars(self):
            del self._periodic

    @property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        """A beat of this app: `app.Beat().run()`."""
        from functools import partial

        return partial(symbol_by_name("taskcore.beat.program:Beat"), self)
