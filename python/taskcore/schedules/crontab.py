"""At times of the clock and the calendar, as cron has them.

The sets of numbers and the search for the next time are the core's; here stand Celery's interface
and Python's time zones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from math import floor
from typing import Any

from taskcore import _core
from taskcore.exceptions import TaskcoreWarning
from taskcore.schedules.base import BaseSchedule, schedstate
from taskcore.utils import warn

Cronspec = int | str | Iterable[int]

_FIELDS = (
    # Name, how many numbers, the first of them.
    ("minute", 60, 0),
    ("hour", 24, 0),
    ("day_of_week", 7, 0),
    ("day_of_month", 31, 1),
    ("month_of_year", 12, 1),
)


class ParseException(ValueError):
    """A field of a crontab expression cannot be read."""


class crontab_parser:  # noqa: N801 - Celery's name
    """Reads one field of a crontab expression.

    Args:
        max_: how many numbers the field has.
        min_: the first of them.
    """

    ParseException = ParseException

    def __init__(self, max_: int = 60, min_: int = 0) -> None:
        self.max_ = max_
        self.min_ = min_

    def parse(self, spec: str) -> set[int]:
        """The numbers that a field stands for: `*/15`, `1,13,30-45`, `fri-mon`. What Celery passes
        over (`mon/2`) is passed over with a warning.

        Raises:
            ParseException: naming the part that cannot be read.
        """
        try:
            numbers, doubts = _core.Crontab.parse(spec, self.max_, self.min_)
        except ValueError as exc:
            raise self.ParseException(str(exc)) from None
        for doubt in doubts:
            warn(doubt, TaskcoreWarning)
        return set(numbers)


class crontab(BaseSchedule):  # noqa: N801 - Celery's name
    """Due when the clock shows one of the minutes and hours, on days that all three fields of days
    name.

    An expression that names hours is due once for each time of day: what the clock skips when summer
    time begins is due at the end of the gap, what it shows twice when that ends is due the first
    time. One of every hour follows the clock as it goes.

    Args:
        minute: 0 to 59: a number, several, or text such as `*/15`.
        hour: 0 to 23.
        day_of_week: 0 to 6 (0 is Sunday), or names: `mon-fri`.
        day_of_month: 1 to 31.
        month_of_year: 1 to 12, or names.
        tz: the zone of the clock, a name or a tzinfo; default: the app's. taskcore's own.
        nowfun, app: see `BaseSchedule`.
    Raises:
        ValueError: a number out of range, or days that none of the months has.
    """

    def __init__(
        self,
        minute: Cronspec = "*",
        hour: Cronspec = "*",
        day_of_week: Cronspec = "*",
        day_of_month: Cronspec = "*",
        month_of_year: Cronspec = "*",
        **kwargs: Any,
    ) -> None:
        self._orig_minute = _cronfield(minute)
        self._orig_hour = _cronfield(hour)
        self._orig_day_of_week = _cronfield(day_of_week)
        self._orig_day_of_month = _cronfield(day_of_month)
        self._orig_month_of_year = _cronfield(month_of_year)
        self._orig_kwargs = dict(kwargs)
        self.minute = self._expand_cronspec(self._orig_minute, 60)
        self.hour = self._expand_cronspec(self._orig_hour, 24)
        self.day_of_week = self._expand_cronspec(self._orig_day_of_week, 7)
        self.day_of_month = self._expand_cronspec(self._orig_day_of_month, 31, 1)
        self.month_of_year = self._expand_cronspec(self._orig_month_of_year, 12, 1)
        self._core = _core.Crontab(*(sorted(getattr(self, name)) for name, _, _ in _FIELDS))
        self._set(**kwargs)

    def _set(
        self,
        tz: str | tzinfo | None = None,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        # A subclass may have set the zone before.
        if tz is not None:
            self.tz = tz
        BaseSchedule.__init__(self, nowfun=nowfun, app=app)

    @classmethod
    def from_string(cls, crontab: str) -> crontab:
        """From five fields: minute, hour, day of month, month, day of week.

        Raises:
            ValueError: there are not five, or one cannot be read.
        """
        fields = crontab.split()
        if len(fields) != 5:
            raise ValueError(
                f"crontab `{crontab}` has {len(fields)} fields: expected minute, hour, day of month, month and "
                "day of week, as in `30 7 * * mon-fri`"
            )
        minute, hour, day_of_month, month_of_year, day_of_week = fields
        return cls(minute, hour, day_of_week, day_of_month, month_of_year)

    @staticmethod
    def _expand_cronspec(cronspec: Any, max_: int, min_: int = 0) -> set[int]:
        """The numbers of a field, however it is written."""
        if isinstance(cronspec, str):
            return crontab_parser(max_, min_).parse(cronspec)
        if isinstance(cronspec, int):
            numbers = {cronspec}
        elif isinstance(cronspec, Iterable):
            numbers = set(cronspec)
        else:
            raise TypeError(
                f"a field of a crontab is of type `{type(cronspec).__name__}`: expected a number, several, or text"
            )
        for number in numbers:
            if not isinstance(number, int) or not min_ <= number < max_ + min_:
                raise ValueError(
                    f"a field of a crontab has `{number!r}`: expected numbers from {min_} to {max_ + min_ - 1}"
                )
        return numbers

    def next_after(self, last_run_at: datetime) -> datetime:
        """The first time after that."""
        clock = self.tz
        due = self._core.next_after(floor(last_run_at.timestamp()), _offset(clock))
        if due is None:
            raise ValueError(f"`{self!r}` is never due: expected days that occur")
        return datetime.fromtimestamp(due, clock)

    def remaining_delta(
        self, last_run_at: datetime, tz: tzinfo | None = None, **_: Any
    ) -> tuple[datetime, timedelta, datetime]:
        """The last run, how long it is from there to the next, and now; in the zone of the clock."""
        clock = tz or self.tz
        last = self.maybe_make_aware(last_run_at).astimezone(clock)
        now = self.maybe_make_aware(self.now()).astimezone(clock)
        return last, self.next_after(last).astimezone(UTC) - last.astimezone(UTC), now

    def is_due(self, last_run_at: datetime) -> tuple[bool, float]:
        """Whether a time of the clock has come since, and in how many seconds to ask again.

        What is older than the setting `beat_cron_starting_deadline` is not due any more.
        """
        remaining = self.remaining_estimate(last_run_at).total_seconds()
        if remaining > 0:
            return schedstate(False, remaining)
        again = max(self.remaining_estimate(self.now()).total_seconds(), 0.0)
        deadline = self.app.conf["beat_cron_starting_deadline"]
        if deadline is not None and remaining < 0:
            since = self.maybe_make_aware(self.now()) - timedelta(seconds=deadline, microseconds=1)
            if self.remaining_estimate(since).total_seconds() > 0:
                return schedstate(False, again)
        return schedstate(True, again)

    def __repr__(self) -> str:
        fields = (
            self._orig_minute,
            self._orig_hour,
            self._orig_day_of_month,
            self._orig_month_of_year,
            self._orig_day_of_week,
        )
        place = "" if self._tz is None else f" {self._tz}"
        return f"<crontab: {' '.join(map(str, fields))} (m/h/dM/MY/d){place}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, crontab):
            return NotImplemented
        same = all(getattr(self, name) == getattr(other, name) for name, _, _ in _FIELDS)
        return same and str(self._tz) == str(other._tz) and super().__eq__(other) is True

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        fields = tuple(getattr(self, f"_orig_{name}") for name, _, _ in _FIELDS)
        return type(self), fields, {k: v for k, v in self._orig_kwargs.items() if k != "app"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._set(**state)
        self._orig_kwargs = dict(state)


def _cronfield(spec: Any) -> Any:
    return "*" if spec is None else spec


def _offset(clock: tzinfo) -> Callable[[int], int]:
    """How many seconds the clock is ahead of UTC at a Unix time."""
    if clock is UTC:
        return lambda at: 0

    def offset(at: int) -> int:
        return floor((datetime.fromtimestamp(at, clock).utcoffset() or timedelta()).total_seconds())

    return offset
