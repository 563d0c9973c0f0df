"""The entries in the broker's store, for those who look after them while beats run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from taskcore import _core
from taskcore.beat import definition, slots
from taskcore.beat.entry import ScheduleEntry, arguments
from taskcore.beat.scheduler import message_options
from taskcore.utils import hint


class Listed(NamedTuple):
    """An entry as it is now."""

    name: str
    task: str
    schedule: str
    """In words."""
    paused: bool
    code: bool
    """Whether it stands in `beat_schedule`, and not in the store alone."""
    total_run_count: int
    last_run_at: datetime | None
    next_due: datetime | None
    """When it is due next; None when only its class knows."""
    said: dict[str, Any]
    """All that it says."""


def store_of(app: Any) -> Any:
    """The app's schedule in the broker's store."""
    return _core.Schedule(app.publisher, app.conf["beat_schedule_name"] or app.main or "default")


class Entries:
    """The periodic tasks of an app. What is changed here every beat knows in two seconds.

    Args:
        app: the app.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self._store = store_of(app)

    def list(self) -> list[Listed]:
        """All entries, sorted by name. Those of the code are there once a beat has led."""
        return [self._listed(*found) for found in self._store.entries()[1]]

    def add(
        self,
        name: str,
        task: Any,
        schedule: Any,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        missed: str = "once",
        jitter: float = 0.0,
    ) -> None:
        """Adds an entry, or changes the one of that name. One whose schedule is changed begins anew.

        Args:
            task: a task, or the name of one.
            schedule: seconds, a timedelta, a `crontab`, a `schedule` or a `solar`.
            options: as for `apply_async`.
            missed, jitter: see `ScheduleEntry`.
        Raises:
            ValueError: the name is that of an entry of the code, or the schedule can never be due.
            TypeError: something of it cannot be kept as JSON.
        """
        entry = ScheduleEntry(
            name=name,
            task=getattr(task, "name", task),
            schedule=schedule,
            args=tuple(args),
            kwargs=dict(kwargs or {}),
            options=dict(options or {}),
            missed=missed,
            jitter=jitter,
            app=self.app,
        )
        self.put(entry)

    def put(self, entry: ScheduleEntry) -> None:
        """Adds an entry, as `add` does."""
        text = definition.dump(entry, code=False)
        said = definition.load(text)
        definition.make(self.app, entry.name, said)
        written = False
        while not written:
            # What is decided by an entry counts only if that is still so when it is written.
            revision, found = self._store.entries()
            before = next(
                (definition.load(text) for name, text, *_ in found if name == entry.name), None
            )
            self._refuse_code(entry.name, before, "changed there")
            now = slots.from_datetime(datetime.now(UTC))
            slots.next_due(entry.schedule, now)
            restart = before is None or before["schedule"] != said["schedule"]
            written = self._store.put([(entry.name, text, now, restart)], revision=revision)

    def remove(self, name: str) -> None:
        """Removes an entry.

        Raises:
            KeyError: there is none of that name.
            ValueError: it stands in the code.
        """
        self._refuse_code(name, self._known(name).said, "removed there; `pause` it for now")
        self._store.remove([name])

    def pause(self, name: str) -> None:
        """Has an entry not be sent until `resume`; KeyError when there is none."""
        self._pause(name, True)

    def resume(self, name: str) -> None:
        """Lets an entry that is paused go on, by its rule for due times that were missed."""
        self._pause(name, False)

    def run(self, name: str) -> Any:
        """Sends an entry now, beside its due times; gives the result. KeyError when there is none."""
        code = self.app.conf["beat_schedule"].get(name)
        if isinstance(code, Mapping):
            entry: Any = ScheduleEntry(**{**code, "name": name, "app": self.app})
        elif code is not None:
            entry = code
        else:
            entry = definition.make(self.app, name, self._known(name).said)
        args, kwargs = arguments(entry)
        task = self.app.tasks.get(entry.task)
        if task is not None:
            return task.apply_async(args, kwargs, **message_options(entry))
        return self.app.send_task(entry.task, args, kwargs, **message_options(entry))

    def _pause(self, name: str, paused: bool) -> None:
        if not self._store.pause(name, paused):
            raise self._missing(name)

    def _known(self, name: str) -> Listed:
        found = self._find(name)
        if found is None:
            raise self._missing(name)
        return found

    def _find(self, name: str) -> Listed | None:
        return next((entry for entry in self.list() if entry.name == name), None)

    def _missing(self, name: str) -> KeyError:
        names = [entry.name for entry in self.list()]
        return KeyError(f"no periodic task `{name}`{hint(name, names)}")

    @staticmethod
    def _refuse_code(name: str | None, said: Mapping[str, Any] | None, what: str) -> None:
        if said is not None and said["code"]:
            raise ValueError(f"entry `{name}` stands in `beat_schedule`: expected it to be {what}")

    def _listed(
        self, name: str, text: str, done: int, runs: int, sent_at: float | None, paused: bool
    ) -> Listed:
        said = definition.load(text)
        try:
            when = definition.schedule_from_json(said["schedule"])
            when.app = self.app
            shown, due = repr(when), slots.to_datetime(slots.next_due(when, done))
        except ValueError:
            shown, due = str(said["schedule"].get("class", said["schedule"])), None
        last = None if sent_at is None else datetime.fromtimestamp(sent_at, UTC)
        return Listed(name, said["task"], shown, paused, said["code"], runs, last, due, said)
