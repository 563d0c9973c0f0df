"""Periodic tasks that a program adds to its app."""

from __future__ import annotations

from taskcore.typed import TYPE_CHECKING, Any, Mapping, Sequence
from taskcore.utils import symbol_by_name

if TYPE_CHECKING:
    from taskcore.config.conf import Config


class Periodic:
    """The part of an app that knows periodic tasks."""

    if TYPE_CHECKING:
        conf: Config

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
        """Adds a task to `beat_schedule`; gives the name of the entry.

        Args:
            schedule: seconds, a timedelta, or a schedule.
            sig: a signature, or a task.
            args, kwargs: arguments, behind those of the signature.
            name: name of the entry; default: the call in words. Of two entries of one name the second
                counts.
            opts: as for `apply_async`; also `missed` and `jitter`, see `taskcore.beat.ScheduleEntry`.
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
        if "_incomplete" in vars(self):
            # The configuration may still be to come.
            vars(self).setdefault("_periodic", []).append((key, entry))
        else:
            self.conf["beat_schedule"][key] = entry
        return key

    def _take_periodic(self) -> None:
        """Puts what was added into the configuration, which is complete now."""
        for key, entry in vars(self).pop("_periodic", ()):
            self.conf["beat_schedule"][key] = entry

    @property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        """A beat of this app: `app.Beat().run()`."""
        from functools import partial

        return partial(symbol_by_name("taskcore.beat.program:Beat"), self)
