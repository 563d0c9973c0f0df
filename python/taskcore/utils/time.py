"""Helpers for times, under the names of `celery.utils.time` that schedulers of other packages use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from random import randrange
from typing import Any

__all__ = [
    "get_exponential_backoff_interval",
    "humanize_seconds",
    "is_naive",
    "localize",
    "make_aware",
    "maybe_iso8601",
    "maybe_make_aware",
    "maybe_timedelta",
    "rate",
    "to_utc",
    "timezone",
    "weekday",
]

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_PER_SECOND = {"s": 1, "m": 60, "h": 3600}
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class _Zones:
    """Celery's `timezone`: the zones that a program asks for."""

    @property
    def utc(self) -> tzinfo:
        """UTC."""
        return UTC

    @property
    def local(self) -> tzinfo:
        """The zone of this machine, as far as it is known: how far its clock is from UTC now."""
        return datetime.now(UTC).astimezone().tzinfo or UTC

    def get_timezone(self, zone: str | tzinfo) -> tzinfo:
        """The zone of a name, or the zone itself.

        Raises:
            ZoneInfoNotFoundError: and KeyError, there is none of that name.
        """
        if isinstance(zone, str):
            from zoneinfo import ZoneInfo

            return ZoneInfo(zone)
        return zone

    def tz_or_local(self, tzinfo: str | tzinfo | None = None) -> tzinfo:
        """The zone, or that of this machine."""
        return self.local if tzinfo is None else self.get_timezone(tzinfo)

    def to_local(
        self, dt: datetime, local: str | tzinfo | None = None, orig: tzinfo | None = None
    ) -> datetime:
        """A time in the zone `local`; a naive one is of the zone `orig`, which is UTC by default."""
        return localize(
            make_aware(dt, orig or UTC) if is_naive(dt) else dt, self.tz_or_local(local)
        )

    def to_system(self, dt: datetime) -> datetime:
        """A time in the zone of this machine."""
        return dt.astimezone()

    def to_local_fallback(self, dt: datetime) -> datetime:
        """A time in the zone of this machine, of which a naive one is."""
        return make_aware(dt, self.local) if is_naive(dt) else localize(dt, self.local)


timezone = _Zones()


def is_naive(dt: datetime) -> bool:
    """Whether a time says nothing of its zone."""
    return dt.utcoffset() is None


def make_aware(dt: datetime, tz: tzinfo) -> datetime:
    """The time that a clock in the zone shows so; the first where it shows it twice."""
    return dt.replace(tzinfo=tz, fold=0)


def localize(dt: datetime, tz: tzinfo) -> datetime:
    """A naive time, or one in UTC, in a zone; a time in another zone as it is, as in Celery."""
    dt = make_aware(dt, tz) if is_naive(dt) else dt
    in_utc = dt.tzinfo is UTC or getattr(dt.tzinfo, "key", None) == "UTC"
    return dt.astimezone(tz) if in_utc else dt


def to_utc(dt: datetime) -> datetime:
    """The same clock, in UTC."""
    return make_aware(dt, UTC)


def maybe_make_aware(
    dt: datetime, tz: str | tzinfo | None = None, naive_as_utc: bool = True
) -> datetime:
    """A time with a zone: itself if it has one.

    Args:
        tz: the zone of the answer for a naive time; default: UTC.
        naive_as_utc: a naive time is in UTC; otherwise it is one of `tz`.
    """
    if not is_naive(dt):
        return dt
    return localize(
        to_utc(dt) if naive_as_utc else dt, UTC if tz is None else timezone.tz_or_local(tz)
    )


def maybe_timedelta(delta: Any) -> Any:
    """Seconds as a timedelta, anything else as it is."""
    return timedelta(seconds=delta) if isinstance(delta, (int, float)) else delta


def maybe_iso8601(dt: datetime | str | None) -> datetime | None:
    """A time from text in ISO 8601; None for nothing."""
    if not dt or isinstance(dt, datetime):
        return dt or None
    return datetime.fromisoformat(dt)


def rate(r: str | float | None) -> float:
    """Calls per second of `100/m`, `2/h`, `0.5/s` or a number."""
    if isinstance(r, str) and r:
        count, _, unit = r.partition("/")
        return float(count) / _PER_SECOND[unit or "s"] or 0
    return float(r or 0)


def weekday(name: str) -> int:
    """The number of a day of the week, 0 is Sunday; KeyError when it is none."""
    try:
        return _WEEKDAYS.index(name[:3].lower())
    except ValueError:
        raise KeyError(name) from None


def humanize_seconds(
    secs: float, prefix: str = "", sep: str = "", now: str = "now", microseconds: bool = False
) -> str:
    """Seconds in the largest unit that they fill: `1.50 minutes`, `1.00 second`, `now`.

    Args:
        prefix, sep: put before it, as in `in 1.00 second`; not before `now`.
        now: what less than a second is called.
        microseconds: less than a second is said in numbers too.
    """
    secs = round(float(secs), 2)
    for size, unit in _UNITS:
        if secs >= size:
            count = secs / size
            return f"{prefix}{sep}{count:.2f} {unit}{'' if count == 1 else 's'}"
    return f"{prefix}{sep}{secs:.2f} seconds" if microseconds and secs > 0 else now


def get_exponential_backoff_interval(
    factor: float,
    retries: int,
    maximum: float,
    full_jitter: bool = False,
) -> float:
    """Seconds before the next attempt: twice as long each time, `maximum` at most.

    Args:
        full_jitter: any time up to that, by chance.
        random: gives a whole number below its argument.
    """
    wait: float = min(maximum, factor * 2**retries)
    if full_jitter:
        wait = randrange(int(wait) + 1)  # noqa: S311 - no secret
    return max(0, wait)
