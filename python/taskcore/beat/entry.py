"""One periodic task: what is sent, when, and when it was sent last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import total_ordering
from typing import Any

from taskcore.schedules import maybe_schedule

_EDITABLE = ("task", "args", "kwargs", "options", "schedule")
MISSED = ("once", "skip", "all")
"""What happens to due times that nobody was there to send: the last of them is sent, none, or
each."""


class BeatLazyFunc:
    """An argument of a periodic task that is made anew each time it is sent.

    Args:
        func: gives the value.
        args, kwargs: what it is called with.
    """

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._func = func
        self._func_params = {"args": args, "kwargs": kwargs}

    def __call__(self) -> Any:
        return self.delay()

    def delay(self) -> Any:
        """The value now."""
        params: dict[str, Any] = self._func_params
        return self._func(*params["args"], **params["kwargs"])


@total_ordering
class ScheduleEntry:
    """An entry of a schedule.

    Args:
        name: its name.
        task: name of the task.
        last_run_at: when it was sent last; default: now.
        total_run_count: how often it was sent.
        schedule: seconds, a timedelta, or a schedule.
        args: positional arguments, some perhaps `BeatLazyFunc`.
        kwargs: keyword arguments, likewise.
        options: as for `apply_async`.
        relative: see `taskcore.schedules.schedule`.
        app: default: the schedule's.
        missed: what to do about due times that passed while no beat ran: `once` (send the last),
            `skip`, or `all`. The default scheduler's own.
        jitter: send up to so many seconds late, each time another. The default scheduler's own.
    Raises:
        ValueError: `missed` or `jitter` is none.
    """

    name: Any = None
    schedule: Any = None
    args: Any = None
    kwargs: Any = None
    options: Any = None
    last_run_at: Any = None
    total_run_count = 0
    missed = "once"
    jitter = 0.0

    def __init__(
        self,
        name: str | None = None,
        task: str | None = None,
        last_run_at: datetime | None = None,
        total_run_count: int | None = None,
        schedule: Any = None,
        args: Any = (),
        kwargs: Any = None,
        options: Any = None,
        relative: bool = False,
        app: Any = None,
        missed: str = "once",
        jitter: float = 0.0,
    ) -> None:
        if missed not in MISSED:
            raise ValueError(
                f"missed of entry `{name}` is `{missed!r}`: expected once, skip or all"
            )
        if isinstance(jitter, bool) or not isinstance(jitter, (int, float)) or jitter < 0:
            raise ValueError(f"jitter of entry `{name}` is `{jitter!r}`: expected seconds")
        self.app = app
        self.name = name
        self.task = task
        self.args = args
        self.kwargs = kwargs or {}
        self.options = options or {}
        self.schedule = maybe_schedule(schedule, relative, app=app)
        seconds = getattr(self.schedule, "seconds", None)
        if jitter and seconds is not None and jitter >= seconds:
            raise ValueError(
                f"jitter of entry `{name}` is `{jitter!r}`: expected less than the {seconds:g} seconds between two due times"
            )
        self.missed = missed
        self.jitter = float(jitter)
        self.last_run_at = last_run_at or self.default_now()
        self.total_run_count = total_run_count or 0

    def default_now(self) -> datetime:
        """The time now, as the schedule sees it."""
        now: datetime = self.schedule.now() if self.schedule else self.app.now()
        return now

    _default_now = default_now

    def _next_instance(self, last_run_at: datetime | None = None) -> ScheduleEntry:
        """The same entry, sent once more."""
        fields = dict(self)
        fields["last_run_at"] = last_run_at or self.default_now()
        fields["total_run_count"] = self.total_run_count + 1
        return type(self)(**fields)

    __next__ = next = _next_instance

    def __reduce__(self) -> tuple[Any, ...]:
        made = (
            self.name,
            self.task,
            self.last_run_at,
            self.total_run_count,
            self.schedule,
            self.args,
            self.kwargs,
            self.options,
        )
        return type(self), made, {"missed": self.missed, "jitter": self.jitter}

    def update(self, other: ScheduleEntry) -> None:
        """Takes over what another entry says; when it was sent stays."""
        for field in (*_EDITABLE, "missed", "jitter"):
            setattr(self, field, getattr(other, field))

    def is_due(self) -> Any:
        """See `BaseSchedule.is_due`."""
        return self.schedule.is_due(self.last_run_at)

    def editable_fields_equal(self, other: object) -> bool:
        """Whether another entry says the same."""
        return all(getattr(self, f) == getattr(other, f, None) for f in _EDITABLE)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())

    def __eq__(self, other: object) -> bool:
        return self.editable_fields_equal(other)

    __hash__ = None  # type: ignore[assignment] # as in Celery: they can be changed

    def __lt__(self, other: object) -> bool:
        # Any order will do, for a heap of entries that are due at the same time.
        return id(self) < id(other) if isinstance(other, ScheduleEntry) else NotImplemented

    def __repr__(self) -> str:
        named = [f"{name}={value!r}" for name, value in (self.kwargs or {}).items()]
        call = ", ".join([*map(repr, self.args or ()), *named])
        return f"<{type(self).__name__}: {self.name} {self.task}({shorten_text(call)}) {self.schedule}>"


def shorten_text(text: str, size: int = 200) -> str:
    """Text of at most so many characters."""
    return text if len(text) <= size else text[: size - 3] + "..."


def arguments(entry: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of an entry, those that are lazy made now."""
    made = [_value(value) for value in entry.args or ()]
    return made, {name: _value(value) for name, value in (entry.kwargs or {}).items()}


def _value(value: Any) -> Any:
    return value() if isinstance(value, BeatLazyFunc) else value
