"""The default scheduler: entries in the broker's store, any number of beats, each due time once.

One beat leads by a lease, the others ask for it every `RENEW` seconds, so that a beat that is lost is
replaced within `LEASE + RENEW`. What is due is sent by the store itself, in the same step in which
the entry moves on; a beat that only believes that it leads, or that lost its connection in the middle
of it, sends nothing twice.

The leader keeps the entries in memory, with a heap of when each is due. They are read again when
somebody has changed them, which every renewal of the lease tells.
"""

from __future__ import annotations

import heapq
import os
import time
from datetime import UTC, datetime
from typing import Any

from taskcore.beat import code, definition, slots
from taskcore.beat.entries import Entries, store_of
from taskcore.beat.entry import ScheduleEntry, arguments
from taskcore.beat.scheduler import Scheduler, logger, message_options
from taskcore.config.settings import BY_NAME
from taskcore.exceptions import OperationalError, TimeoutError
from taskcore.publishing.prepared import prepare
from taskcore.utils import uuid

LEASE = 6.0
"""Seconds after which a beat that does not renew its lease has lost it."""
RENEW = 2.0
"""Seconds between two renewals; three fit into a lease."""
MOST = 500
"""Entries that are sent in one step."""


def _now() -> int:
    return int(time.time() * slots.SECOND)


class Kept:
    """An entry in the leader's memory."""

    __slots__ = ("done", "entry", "known", "wake")

    def __init__(self, entry: Any, done: int) -> None:
        self.entry = entry
        self.done = done
        """The last due time that it is done with."""
        self.known = slots.is_known(entry.schedule)
        """Whether its due times are known in advance."""
        self.wake = 0.0
        """When it is looked at next, in Unix seconds; an event of the heap for another time is void."""


class StoreScheduler(Scheduler):
    """Keeps the entries in the broker's store; see `Scheduler`."""

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        self.store = store_of(app)
        self.beat = f"{app.node}:{os.getpid()}:{uuid()[:8]}"
        """Its name among the beats."""
        self.leads = False
        self._ask_at = 0.0
        self._revision: int | None = None
        """Of the entries in memory; None when they must be read."""
        self._kept: dict[str, Kept] = {}
        self._due: list[tuple[float, str]] = []
        self._refused: dict[str, int] = {}
        """Where entries were that the store did not send, until they are read again."""
        self._away = False
        self._compared = False
        """Whether it has looked, as one who waits, at what the leader sends."""
        file = kwargs.get("schedule_filename")
        if file not in (None, BY_NAME["beat_schedule_filename"].default):
            logger.warning(
                "schedule file `%s` is not used, the entries are kept in the broker's store: leave it out, or use the "
                "scheduler `taskcore.beat:PersistentScheduler`",
                file,
            )
        if app.conf.is_set("beat_sync_every"):
            logger.warning(
                "`beat_sync_every` has no effect: the store is written in the step that sends; leave it out"
            )
        super().__init__(app, *args, **kwargs)

    # The schedule

    def setup_schedule(self) -> None:
        """Takes the entries of the code; the others are read by whoever leads."""
        self._code = code.copied(self.app)
        self.data = code.made(self._code, self._maybe_entry)

    def _take_code(self) -> bool:
        """Takes over what the program has changed in its `beat_schedule`; whether there was
        anything."""
        if code.is_as_copied(self.app, self._code):
            return False
        self._code = said = code.copied(self.app)
        try:
            self.data = code.made(said, self._maybe_entry)
        except Exception as exc:  # of whoever has changed it
            logger.error("beat: `beat_schedule` was changed, and stays as it was: %s", exc)
            return False
        return True

    def get_schedule(self) -> Any:
        """The entries by name: those of the code, and for the leader those of the store."""
        return {**self.data, **{name: kept.entry for name, kept in self._kept.items()}}

    def add(self, **kwargs: Any) -> Any:
        """Adds an entry to the store; see `Entries.add`."""
        entry = self.Entry(app=self.app, **kwargs)
        Entries(self.app).put(entry)
        return entry

    # Ticks

    def tick(self, *_: Any, **__: Any) -> float:
        """Renews the lease, sends what is due; how many seconds to sleep."""
        try:
            now = time.time()
            if now >= self._ask_at or self._ask_at - now > RENEW:
                self._ask(now)
            if self.leads:
                if self._revision is None:
                    self._read()
                if self.leads:
                    self._send_due(time.time())
        except (OperationalError, TimeoutError) as exc:
            self._lost(exc)
        wake = min(self._ask_at, self._due[0][0]) if self.leads and self._due else self._ask_at
        return max(min(wake - time.time(), self.max_interval), 0.0)

    def _ask(self, now: float) -> None:
        if now < self._ask_at - 2 * RENEW:
            logger.warning("beat: the clock was set back")
            self._revision = None
        self._ask_at = now + RENEW
        leader, revision = self.store.lead(self.beat, LEASE)
        if self._away:
            self._away = False
            logger.warning("beat: connected again")
        changed, leads = self._take_code(), leader == self.beat
        # It leads once its entries are written: an error on the way leaves that to the next time.
        led, self.leads = self.leads, False
        if leads and led and not changed:
            self.leads = True
        elif leads:
            self._revision = None
            self.leads = self._write_code()
            if not self.leads:
                self._ask_at = now
                text = "beat: `%s` has lost the lead before it wrote its entries"
                logger.warning(text, self.beat)
            elif not led:
                logger.info("beat: `%s` leads", self.beat)
        elif led:
            logger.warning("beat: `%s` leads now, `%s` waits", leader, self.beat)
            self._kept, self._due = {}, []
        if self._revision != revision:
            self._revision = None
        if not self.leads and not self._compared:
            self._compared = True
            self._compare()

    def _compare(self) -> None:
        """Says when the beat that leads has other entries in its code: it may be another app's."""
        others = {
            name for name, text, *_ in self.store.entries()[1] if definition.load(text)["code"]
        }
        if others != set(self.data):
            logger.warning(
                "the beat that leads has other entries (`%s`): expected another version of this app; give different "
                "apps on one broker different names, or set `beat_schedule_name`",
                ", ".join(sorted(others ^ set(self.data))),
            )

    def _lost(self, exc: Exception) -> None:
        # What was sent is known again when the entries are read.
        self._revision = None
        self._ask_at = time.time() + RENEW / 2
        self._due = []
        if not self._away:
            self._away = True
            logger.error("beat: the broker is away, trying on: %s", exc)

    def _write_code(self) -> bool:
        """Makes the entries of the store those of the code, beside those that were added to it.

        Returns:
            False when another beat leads by now: this one has slept longer than its lease.
        """
        gone, changed = code.changes(self.data, self.store.entries()[1], _now())
        if gone and self.store.remove(gone, leader=self.beat) is None:
            return False
        return not changed or bool(self.store.put(changed, leader=self.beat))

    def _read(self) -> None:
        """Takes the entries over as they are in the store."""
        revision, found = self.store.entries()
        if self.data.keys() - {name for name, *_ in found}:
            # The store was emptied, or came back without its data.
            self.leads = self._write_code()
            if not self.leads:
                return
            revision, found = self.store.entries()
        kept = {}
        for name, text, done, runs, sent_at, paused in found:
            entry = self._entry(name, text)
            if entry is None or paused:
                continue
            entry.total_run_count = runs
            if sent_at is not None:
                entry.last_run_at = datetime.fromtimestamp(sent_at, UTC)
            kept[name] = Kept(entry, done)
        self._begin_anew(kept)
        self._kept, self._due, self._revision = kept, [], revision
        refused, self._refused = self._refused, {}
        for name, one in kept.items():
            again = None
            if refused.get(name) == one.done:
                logger.error(
                    "the store does not send entry `%s`: look at the keys of its queue", name
                )
                again = RENEW
            self._schedule(one, again)

    def _begin_anew(self, kept: dict[str, Kept]) -> None:
        """Has entries begin now that are done with a time of a clock that was wrong."""
        now = _now()
        ahead = [
            (name, one)
            for name, one in kept.items()
            if slots.is_ahead(one.entry.schedule, one.done, now)
        ]
        if ahead:
            names = ", ".join(name for name, _ in ahead)
            logger.warning("beat: the clock was set back: `%s` begin anew", names)
            moved = self.store.fire([(name, one.done, now, None) for name, one in ahead])
            for (_, one), done in zip(ahead, moved, strict=True):
                one.done = one.done if done is None else now

    def _entry(self, name: str, text: str) -> Any:
        said = definition.load(text)
        if said["code"]:
            return self.data.get(name)
        try:
            return definition.make(self.app, name, said)
        except Exception as exc:  # of whoever has put it there
            logger.error("entry `%s` is not sent, it cannot be understood: %s", name, exc)
            return None

    def _schedule(self, kept: Kept, again: float | None = None) -> None:
        """Enters when an entry is looked at next."""
        try:
            if again is not None:
                kept.wake = time.time() + again
            elif kept.known:
                due = slots.next_due(kept.entry.schedule, kept.done)
                kept.wake = slots.jittered(kept.entry, due) / slots.SECOND
            else:
                is_due, seconds = self._is_due(self._at(kept))
                kept.wake = 0.0 if is_due else time.time() + seconds
        except Exception:
            logger.exception(
                "cannot tell when entry `%s` is due, asking again in %g s",
                kept.entry.name,
                self.max_interval,
            )
            kept.wake = time.time() + self.max_interval
        heapq.heappush(self._due, (kept.wake, kept.entry.name))

    @staticmethod
    def _at(kept: Kept) -> Any:
        """The entry as a schedule of the user's own class is asked about it."""
        kept.entry.last_run_at = slots.to_datetime(kept.done)
        return kept.entry

    # Sending

    def _send_due(self, now: float) -> None:
        firings: list[Any] = []
        sent: list[Kept] = []
        again: dict[str, float] = {}
        while self._due and self._due[0][0] <= now and len(firings) < MOST:
            wake, name = heapq.heappop(self._due)
            kept = self._kept.get(name)
            if kept is None or kept.wake != wake:
                continue
            steps = self._steps(kept, now, again)
            firings += [firing for step in steps if (firing := self._firing(kept, step))]
            sent.append(kept)
        if firings:
            self._fire(firings)
        for kept in sent:
            self._schedule(kept, again.get(kept.entry.name))

    def _steps(self, kept: Kept, now: float, again: dict[str, float]) -> list[slots.Step]:
        at = int(now * slots.SECOND)
        try:
            if kept.known:
                deadline = self.app.conf["beat_cron_starting_deadline"]
                return slots.steps(kept.entry, kept.done, at, deadline)
            is_due, again[kept.entry.name] = self._is_due(self._at(kept))
            return [slots.Step(at, True)] if is_due else []
        except Exception:
            logger.exception("cannot tell whether entry `%s` is due", kept.entry.name)
            again[kept.entry.name] = self.max_interval
            return []

    def _firing(self, kept: Kept, step: slots.Step) -> Any:
        """What the store is to do about one due time, and moves the entry in memory."""
        done, kept.done = kept.done, step.due
        message = sender = None
        if step.send:
            try:
                message, sender = self._message(kept.entry, step.due)
            except Exception:
                logger.exception("entry `%s` was not sent", kept.entry.name)
        return (kept, (kept.entry.name, done, step.due, message), sender)

    def _fire(self, firings: list[Any]) -> None:
        try:
            ids = self.store.fire([firing for _, firing, _ in firings])
        except (OperationalError, TimeoutError):
            raise
        except Exception:
            ids = [self._fire_alone(firing) for _, firing, _ in firings]
        for (kept, (name, done, *_), sender), task_id in zip(firings, ids, strict=True):
            if task_id is None:
                # Somebody else was faster, or has changed the entry.
                self._revision, self._refused[name] = None, done
                continue
            if task_id:
                kept.entry.total_run_count += 1
                logger.info("sent `%s` (%s) id=%s", name, kept.entry.task, task_id)
            if sender is not None:
                self._after(kept.entry, sender)

    def _fire_alone(self, firing: Any) -> str | None:
        """One of a batch of which another cannot be sent; one that cannot is passed over."""
        name, done, due, _ = firing
        try:
            task_id: str | None = self.store.fire([firing])[0]
        except (OperationalError, TimeoutError):
            raise
        except Exception:
            logger.exception("entry `%s` was not sent", name)
            return str(self.store.fire([(name, done, due, None)])[0] or "") or None
        return task_id

    def _after(self, entry: Any, sender: Any) -> None:
        try:
            sender()
        except Exception:
            logger.exception("entry `%s` was not sent", entry.name)

    def _message(self, entry: ScheduleEntry, due: int) -> tuple[Any, Any]:
        """The message of an entry, and what is called once it is sent.

        A task whose `apply_async` is the program's own, and one that runs eagerly, is called after
        the entry has moved on: at most once.
        """
        app = self.app
        args, kwargs = arguments(entry)
        options = message_options(entry, slots.to_datetime(due).isoformat())
        task = app.tasks.get(entry.task)
        eager = app.conf["task_always_eager"] and task is not None
        if eager or app.has_own_send or (task is not None and task.has_own_call):
            call = app.send_task if task is None else task.apply_async
            return None, lambda: call(
                *((entry.task,) if task is None else ()), args, kwargs, **options
            )
        return prepare(app.producer, task or entry.task, args, kwargs, options)

    # The end

    def close(self) -> None:
        """Leaves the lead to another beat at once."""
        if self.leads:
            self.leads = False
            try:
                self.store.resign(self.beat)
            except (OperationalError, TimeoutError) as exc:
                logger.warning("beat: could not give up the lead: %s", exc)

    @property
    def info(self) -> str:
        """A line for the banner: where the schedule is kept."""
        return f"  schedule     {self.app.publisher.url}"
