"""The schedulers of other packages: Celery's interface, and a schedule in memory.

A beat calls `tick`, which sends what is due and says how long to sleep. A subclass keeps its entries
elsewhere (a database, Redis) by overriding `schedule`, `setup_schedule` and `sync`.
"""

from __future__ import annotations

import copy
import heapq
import logging
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from taskcore.beat.entry import ScheduleEntry, arguments

logger = logging.getLogger("taskcore.beat")

DEFAULT_MAX_INTERVAL = 300
"""Seconds between two looks at the schedule, at most."""


class SchedulingError(Exception):
    """A periodic task could not be sent."""


class event_t(NamedTuple):  # noqa: N801 - Celery's name
    """An entry in the heap of a scheduler."""

    time: float
    """When it is looked at next, in Unix seconds."""
    priority: int
    entry: Any


class Scheduler:
    """Sends entries when they are due.

    Args:
        app: whose tasks.
        schedule: the entries, or a function that gives them.
        max_interval: seconds to sleep at most; default: the setting `beat_max_loop_interval`.
        Producer: Celery's; it has no meaning here.
        lazy: do not read the schedule yet.
        sync_every_tasks: write the schedule after so many tasks; default: `beat_sync_every`.
    """

    Entry: Any = ScheduleEntry
    max_interval: float = DEFAULT_MAX_INTERVAL
    sync_every = 3 * 60
    """Seconds between two writings of the schedule."""
    sync_every_tasks: int | None = None
    producer: Any = None
    """Celery's; taskcore connects by itself."""
    logger = logger

    _last_sync: float | None = None
    _tasks_since_sync = 0

    def __init__(
        self,
        app: Any,
        schedule: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        max_interval: float | None = None,
        Producer: Any = None,  # noqa: N803 - Celery's name
        lazy: bool = False,
        sync_every_tasks: int | None = None,
        **_: Any,
    ) -> None:
        self.app = app
        self.data: Any = schedule() if callable(schedule) else {} if schedule is None else schedule
        conf = app.conf
        self.max_interval = max_interval or conf["beat_max_loop_interval"] or self.max_interval
        self.Producer = Producer
        self.sync_every_tasks = (
            conf["beat_sync_every"] if sync_every_tasks is None else sync_every_tasks
        )
        self._heap: list[event_t] | None = None
        self.old_schedulers: Any = None
        if not lazy:
            self.setup_schedule()

    # The schedule

    def get_schedule(self) -> Any:
        """The entries by name."""
        return self.data

    def set_schedule(self, schedule: Any) -> None:
        """Puts other entries in place of them."""
        self.data = schedule

    schedule = property(
        lambda self: self.get_schedule(), lambda self, value: self.set_schedule(value)
    )

    def setup_schedule(self) -> None:
        """Reads the schedule; called once."""
        self.install_default_entries(self.data)
        self.merge_inplace(self.app.conf["beat_schedule"])

    def install_default_entries(self, data: Mapping[str, Any]) -> None:
        """Nothing: Celery's entry that deletes expired results is not needed, the stores do it."""

    def merge_inplace(self, b: Mapping[str, Any]) -> None:
        """Makes the schedule that of `b`, keeping when its entries were sent."""
        schedule = self.schedule
        for name in set(schedule) - set(b):
            del schedule[name]
        for name, fields in b.items():
            entry = self._maybe_entry(name, fields)
            if name in schedule:
                schedule[name].update(entry)
            else:
                schedule[name] = entry

    def update_from_dict(self, dict_: Mapping[str, Any]) -> None:
        """Adds entries."""
        self.schedule.update({name: self._maybe_entry(name, e) for name, e in dict_.items()})

    def _maybe_entry(self, name: str, entry: Any) -> Any:
        if isinstance(entry, self.Entry):
            entry.app = self.app
            return entry
        return self.Entry(**{**entry, "name": name, "app": self.app})

    def add(self, **kwargs: Any) -> Any:
        """Adds an entry, given as the arguments of its class."""
        entry = self.Entry(app=self.app, **kwargs)
        self.schedule[entry.name] = entry
        return entry

    def schedules_equal(self, old_schedules: Any, new_schedules: Any) -> bool:
        """Whether two schedules say the same."""
        if old_schedules is None or new_schedules is None:
            return old_schedules is new_schedules
        return set(old_schedules) == set(new_schedules) and all(
            new_schedules[name] == entry for name, entry in old_schedules.items()
        )

    # Ticks

    @cached_property
    def connection(self) -> Any:
        """A connection of the app's, for schedulers that ask for one; taskcore publishes without."""
        return self.app.connection_for_write()

    def tick(self, *_: Any, **__: Any) -> float:
        """Sends one entry that is due; how many seconds to sleep. Celery's arguments, which its own
        tests replace, have no meaning here."""
        if self._heap is None or not self.schedules_equal(self.old_schedulers, self.schedule):
            self.old_schedulers = copy.copy(self.schedule)
            self.populate_heap()
        heap = self._heap
        if not heap:
            return self.max_interval
        event = heap[0]
        early = event.time - self._when(event.entry, 0)
        if early > 0:
            return min(early, self.max_interval)
        heapq.heappop(heap)
        is_due, again = self._is_due(event.entry)
        entry = event.entry
        if is_due:
            entry = self.reserve(event.entry)
            self.apply_entry(event.entry, producer=self.producer)
        heapq.heappush(heap, event_t(self._when(entry, again), event.priority, entry))
        return (
            0.0 if is_due else max(min(heap[0].time - self._when(entry, 0), self.max_interval), 0.0)
        )

    def populate_heap(self, *_: Any, **__: Any) -> None:
        """Looks when each entry is due."""
        events = []
        for entry in self.schedule.values():
            is_due, again = self._is_due(entry)
            events.append(event_t(self._when(entry, 0 if is_due else again), 5, entry))
        heapq.heapify(events)
        self._heap = events

    def is_due(self, entry: Any) -> Any:
        """Whether an entry is due, and in how many seconds to ask again."""
        return entry.is_due()

    def _is_due(self, entry: Any) -> tuple[bool, float]:
        try:
            is_due, again = self.is_due(entry)
        except Exception:
            logger.exception(
                "cannot tell when entry `%s` is due, asking again in %g s",
                entry.name,
                self.max_interval,
            )
            return False, self.max_interval
        return bool(is_due), self.max_interval if again is None else float(again)

    def _when(self, entry: Any, next_time_to_run: float, *_: Any) -> float:
        """The Unix time in so many seconds, by the clock of an entry."""
        now = entry.schedule.maybe_make_aware(entry.default_now())
        return float(now.timestamp()) + (self.adjust(next_time_to_run) or 0)

    def adjust(self, n: float, drift: float = -0.010) -> float:
        """A wait, a little shorter, so that it does not end late."""
        return n + drift if n and n > 0 else n

    def reserve(self, entry: Any) -> Any:
        """Notes that an entry is sent; the entry from now on."""
        new = self.schedule[entry.name] = next(entry)
        return new

    # Sending

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Sends an entry; a failure is logged."""
        logger.info("sending `%s` (%s)", entry.name, entry.task)
        try:
            result = self.apply_async(entry, producer=producer, advance=False)
        except Exception:
            logger.exception("entry `%s` was not sent", entry.name)
        else:
            logger.debug("sent `%s` id=%s", entry.name, getattr(result, "id", None))

    def apply_async(
        self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any
    ) -> Any:
        """Sends an entry.

        Args:
            producer: Celery's; it has no meaning here.
            advance: also note that it is sent.
        Raises:
            SchedulingError: it could not be sent.
        """
        entry = self.reserve(entry) if advance else entry
        try:
            args, named = arguments(entry)
            options = message_options(entry)
            task = self.app.tasks.get(entry.task)
            if task is not None:
                return task.apply_async(args, named, **options)
            return self.send_task(entry.task, args, named, **options)
        except Exception as exc:
            raise SchedulingError(f"entry `{entry.name}` was not sent: {exc}") from exc
        finally:
            self._tasks_since_sync += 1
            if self.should_sync():
                self._do_sync()

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        """Sends a task that this process does not have."""
        return self.app.send_task(*args, **kwargs)

    # Keeping

    def should_sync(self) -> bool:
        """Whether it is time to write the schedule."""
        if self._last_sync is None or time.monotonic() - self._last_sync > self.sync_every:
            return True
        return bool(self.sync_every_tasks) and self._tasks_since_sync >= (
            self.sync_every_tasks or 0
        )

    def _do_sync(self) -> None:
        try:
            self.sync()
        finally:
            self._last_sync = time.monotonic()
            self._tasks_since_sync = 0

    def sync(self) -> None:
        """Writes the schedule, where it is kept anywhere."""

    def close(self) -> None:
        """Writes the schedule, and ends."""
        self.sync()

    @property
    def info(self) -> str:
        """A line for the banner: where the schedule is kept."""
        return ""


def message_options(entry: Any, due: str | None = None) -> dict[str, Any]:
    """The options of the message that an entry sends; its headers say which entry it was, and the
    due time where it is known."""
    options = dict(entry.options or {})
    own = {"periodic_task_name": entry.name, "celery_beat_task": True}
    if due is not None:
        own["periodic_task_due"] = due
    options["headers"] = {**own, **(options.get("headers") or {})}
    return {
        name: value for name, value in options.items() if name not in ("producer", "connection")
    }
