"""Which due times of an entry are to be sent now. Pure: the time is an argument.

Times are whole microseconds since 1970, so that the due times of an interval do not drift and two
beats mean the same one. A schedule of the user's own class has no due times that could be known in
advance: it is asked each time, and the time of asking is the due time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zlib import crc32

from taskcore.schedules import BaseSchedule, crontab, schedule, solar

SECOND = 1_000_000
LATE = 10 * SECOND
"""A due time that is sent so late was not missed: another beat took over."""
AHEAD = 25 * 3600 * SECOND
"""A time of the clock that was sent and is still so far ahead was one of a clock that was wrong: by
less it is one that the clock shows again, and that is sent once."""
MOST = 200
"""Due times of one entry that are sent at once; the rest follows."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Step(NamedTuple):
    """One due time."""

    due: int
    """What the entry is done with after it."""
    send: bool
    """Whether it is sent, or passed over."""


def to_datetime(at: int) -> datetime:
    """A due time as a time in UTC."""
    return _EPOCH + timedelta(microseconds=at)


def from_datetime(at: datetime) -> int:
    """A time as a due time."""
    return (at.astimezone(UTC) - _EPOCH) // _MICROSECOND


def is_known(when: Any) -> bool:
    """Whether the due times of a schedule can be known in advance: one of the built-in classes, or a
    class that leaves them as they are."""
    cls = type(when)
    return isinstance(when, BaseSchedule) and any(
        isinstance(when, base)
        and cls.is_due is base.is_due
        and cls.remaining_estimate is base.remaining_estimate
        for base in (schedule, crontab, solar)
    )


def next_due(when: Any, done: int) -> int:
    """The first due time of a known schedule after that.

    Raises:
        ValueError: it is an interval of nothing.
    """
    if type(when) is schedule:
        every: int = when.run_every // _MICROSECOND
        if every <= 0:
            raise ValueError(f"the interval is {when.seconds:g} seconds: expected more than 0")
        if not when.relative:
            return done + every
    return max(from_datetime(when.next_after(to_datetime(done))), done + 1)


def is_ahead(when: Any, done: int, now: int) -> bool:
    """Whether an entry is done with a time that only a clock can have shown that was set back since:
    waiting for it to come again might take years."""
    at_the_clock = isinstance(when, (crontab, solar))
    return done > now + (AHEAD if at_the_clock else LATE)


def jittered(entry: Any, due: int) -> int:
    """When a due time is sent: the same on every beat."""
    if not entry.jitter:
        return due
    share = crc32(f"{entry.name}\0{due}".encode()) / 2**32
    return due + int(share * entry.jitter * SECOND)


def steps(entry: Any, done: int, now: int, deadline: float | None = None) -> list[Step]:
    """What is to be done with an entry of a known schedule that is done with `done`.

    Args:
        deadline: seconds after which a due time of a crontab is not sent any more.
    """
    when = entry.schedule
    due = next_due(when, done)
    if jittered(entry, due) > now:
        return []
    oldest = (
        now - int(deadline * SECOND) if deadline is not None and isinstance(when, crontab) else 0
    )
    if entry.missed == "all":
        found = []
        for due in _until(entry, done, now):
            found.append(Step(due, due >= oldest))
            if len(found) == MOST:
                break
        return found
    last = _last(entry, due, now)
    if entry.missed == "skip":
        oldest = max(oldest, now - LATE - int(entry.jitter * SECOND))
    return [Step(last, last >= oldest)]


def _until(entry: Any, done: int, now: int) -> Iterator[int]:
    while jittered(entry, due := next_due(entry.schedule, done)) <= now:
        yield due
        done = due


def _last(entry: Any, first: int, now: int) -> int:
    """The last due time that has come, of which `first` is one."""
    when = entry.schedule
    if type(when) is schedule and not when.relative:
        every = when.run_every // _MICROSECOND
        first += max((now - first) // every - 1, 0) * every
    else:
        # From a point shortly before now, and further back until there is one.
        back = 60 * SECOND
        while (start := now - back) > first:
            due = next_due(when, start)
            if jittered(entry, due) <= now:
                first = due
                break
            back *= 4
    last = first
    for last in _until(entry, first, now):  # noqa: B007 - the last of them
        pass
    return last
