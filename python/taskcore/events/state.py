"""What is known of a fleet: workers and tasks, kept up to date by their events.

`state.event` is a handler for a receiver. Bounded: of tasks and of workers, those that nothing was
heard of for longest are forgotten.
"""

from __future__ import annotations

import bisect
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple
from weakref import WeakSet, ref

from taskcore import states
from taskcore.events import seen
from taskcore.events.lru import LRUCache
from taskcore.events.seen import Task, Worker, heartbeat_expires

__all__ = ["State", "Task", "Worker", "heartbeat_expires"]


class _At(NamedTuple):
    """A moment in the life of a task, in the order of logical time: of the same time, by who told;
    where it is not known, by the clocks."""

    clock: int | None
    timestamp: float | None
    origin: str
    task: ref[seen.Task]

    def __lt__(self, other: Any) -> bool:
        if self.clock and other.clock:
            return (self.clock, str(self.origin)) < (other.clock, str(other.origin))
        return (self.timestamp or 0) < (other.timestamp or 0)

    def __gt__(self, other: Any) -> bool:
        return bool(other < self)


class Index(defaultdict[str, "WeakSet[Task]"]):
    """Tasks by something; called, it gives them in the order of time."""

    def __init__(self, ordered: Callable[..., Iterator[tuple[str, Task]]]) -> None:
        super().__init__(WeakSet)
        self._ordered = ordered

    def __call__(
        self, name: str, limit: int | None = None, reverse: bool = True
    ) -> Iterator[tuple[str, Task]]:
        """At most `limit` pairs of id and task, the latest first unless `reverse` is False."""
        return self._ordered(name, limit, reverse)


class State:
    """What is known of a fleet. Thread-safe as far as `event`, `clear` and `freeze_while` go.

    Args:
        callback: called with the state and each event, before it counts.
        max_workers_in_memory: of so many workers something is known.
        max_tasks_in_memory: and of so many tasks.
        on_node_join: called with a worker that comes.
        on_node_leave: called with one that leaves.
    """

    Worker = Worker
    Task = Task
    heap_multiplier = 4
    """How many moments are kept for each task that is."""

    def __init__(
        self,
        callback: Callable[[State, dict[str, Any]], object] | None = None,
        workers: Any = None,
        tasks: Any = None,
        taskheap: list[Any] | None = None,
        max_workers_in_memory: int = 5000,
        max_tasks_in_memory: int = 10000,
        on_node_join: Callable[[seen.Worker], object] | None = None,
        on_node_leave: Callable[[seen.Worker], object] | None = None,
        tasks_by_type: dict[str, Iterable[str]] | None = None,
        tasks_by_worker: dict[str, Iterable[str]] | None = None,
    ) -> None:
        self.event_callback = callback
        self.workers = LRUCache(max_workers_in_memory) if workers is None else workers
        self.tasks = LRUCache(max_tasks_in_memory) if tasks is None else tasks
        self.max_workers_in_memory = max_workers_in_memory
        self.max_tasks_in_memory = max_tasks_in_memory
        self.on_node_join = on_node_join
        self.on_node_leave = on_node_leave
        self.event_count = 0
        self.task_count = 0
        self.handlers: dict[str, Callable[[str, dict[str, Any]], Any]] = {}
        self._mutex = threading.Lock()
        self._seen_types: set[str] = set()
        self._orphans: LRUCache[str, WeakSet[seen.Task]] = LRUCache(max_tasks_in_memory)
        self._taskheap: list[_At] = [] if taskheap is None else taskheap
        self.rebuild_taskheap()
        self.tasks_by_type = self._index(tasks_by_type, lambda task: task.name)
        self.tasks_by_worker = self._index(
            tasks_by_worker, lambda task: task.worker and task.worker.hostname
        )

    def _index(self, known: dict[str, Iterable[str]] | None, of: Callable[[Any], Any]) -> Index:
        def ordered(name: str, limit: int | None, reverse: bool) -> Iterator[tuple[str, seen.Task]]:
            pairs = self.tasks_by_time(reverse=reverse)
            return islice((pair for pair in pairs if of(pair[1]) == name), 0, limit)

        index = Index(ordered)
        for name, ids in (known or {}).items():
            index[name].update(self.tasks[one] for one in ids if one in self.tasks)
        return index

    # Events

    def event(self, event: dict[str, Any]) -> Any:
        """Takes an event; gives the worker or task that it is about and whether that is new, and the
        type without its group. None for events of other groups."""
        with self._mutex:
            return self._event(event)

    def task_event(self, type_: str, fields: dict[str, Any]) -> Any:
        """Takes an event about a task."""
        return self._event({**fields, "type": f"task-{type_}"})[0]

    def worker_event(self, type_: str, fields: dict[str, Any]) -> Any:
        """Takes an event about a worker."""
        return self._event({**fields, "type": f"worker-{type_}"})[0]

    def _event(self, event: dict[str, Any]) -> Any:
        self.event_count += 1
        if self.event_callback is not None:
            self.event_callback(self, event)
        group, _, subject = event["type"].partition("-")
        if group in self.handlers:
            return self.handlers[group](subject, event), subject
        if group == "worker" and {"hostname", "timestamp", "local_received"} <= event.keys():
            return self._worker_event(subject, event), subject
        if group == "task":
            return self._task_event(subject, event), subject
        return None

    def _worker_event(self, subject: str, event: dict[str, Any]) -> tuple[seen.Worker, bool]:
        hostname, leaves = event["hostname"], subject == "offline"
        worker = self.workers.data.get(hostname)
        created = worker is None and not leaves
        if worker is None:
            worker = self.Worker(hostname)
            if not leaves:
                self.workers[hostname] = worker
        worker.event(subject, event["timestamp"], event["local_received"], event)
        if self.on_node_join is not None and (created or subject == "online"):
            self.on_node_join(worker)
        if self.on_node_leave is not None and leaves:
            self.on_node_leave(worker)
            self.workers.pop(hostname, None)
        return worker, created

    def _task_event(self, subject: str, event: dict[str, Any]) -> tuple[seen.Task, bool]:
        uuid, hostname = event["uuid"], event["hostname"]
        timestamp, received = event["timestamp"], event["local_received"]
        task = self.tasks.data.get(uuid)
        created = task is None
        if task is None:
            task = self.tasks[uuid] = self.Task(uuid, cluster_state=self)
        if subject == "sent":
            task.client = origin = hostname
        else:
            task.worker = self._worker_of(hostname, timestamp, received)
            origin = task.worker.id
        self._remember(_At(event["clock"], timestamp, origin, ref(task)))
        self.task_count += subject == "received"
        task.event(subject, timestamp, received, event)
        if task.name is not None:
            self._seen_types.add(task.name)
            if created:
                self.tasks_by_type[task.name].add(task)
                self.tasks_by_worker[hostname].add(task)
        self._relate(task)
        return task, created

    def _worker_of(self, hostname: str, timestamp: float, received: float) -> Any:
        worker = self.workers.data.get(hostname)
        if worker is None:
            worker = self.workers[hostname] = self.Worker(hostname)
        if received:
            worker.event(None, received, timestamp)
        return worker

    def _remember(self, at: _At) -> None:
        heap = self._taskheap
        if len(heap) + 1 > self.max_tasks_in_memory * self.heap_multiplier:
            heap.pop(0)
        if heap and at > heap[-1]:
            heap.append(at)
        else:
            bisect.insort(heap, at)

    def _relate(self, task: seen.Task) -> None:
        """Makes it a child of its parent, and those its children that were heard of before it."""
        if task.parent_id:
            parent = self.tasks.data.get(task.parent_id)
            if parent is not None:
                parent.children.add(task)
            elif task.parent_id in self._orphans:
                self._orphans[task.parent_id].add(task)
            else:
                self._orphans[task.parent_id] = WeakSet([task])
        if task.uuid in self._orphans:
            task.children.update(self._orphans.pop(str(task.uuid)))

    # What is known

    def get_or_create_worker(self, hostname: str, **kwargs: Any) -> tuple[seen.Worker, bool]:
        """The worker of this name, and whether it is new."""
        if hostname in self.workers:
            worker = self.workers[hostname]
            worker.update(kwargs)
            return worker, False
        worker = self.workers[hostname] = self.Worker(hostname, **kwargs)
        return worker, True

    def get_or_create_task(self, uuid: str) -> tuple[seen.Task, bool]:
        """The task of this id, and whether it is new."""
        if uuid in self.tasks:
            return self.tasks[uuid], False
        task = self.tasks[uuid] = self.Task(uuid, cluster_state=self)
        return task, True

    def itertasks(self, limit: int | None = None) -> Iterator[tuple[str, seen.Task]]:
        """Ids and tasks."""
        return islice(self.tasks.items(), 0, limit or None)

    def tasks_by_time(
        self, limit: int | None = None, reverse: bool = True
    ) -> Iterator[tuple[str, seen.Task]]:
        """Ids and tasks, the latest first, of the last `limit` moments."""
        heap = self._taskheap[::-1] if reverse else list(self._taskheap)
        told = set()
        for at in heap[:limit]:
            task = at.task()
            if task is not None and task.uuid not in told:
                told.add(task.uuid)
                yield str(task.uuid), task

    tasks_by_timestamp = tasks_by_time

    def task_types(self) -> list[str]:
        """The names of all tasks that were heard of."""
        return sorted(self._seen_types)

    def alive_workers(self) -> Iterator[seen.Worker]:
        """Workers that were heard of in time."""
        return (worker for worker in self.workers.values() if worker.alive)

    # Keeping

    def freeze_while(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls a function while no event counts; with `clear_after`, forgets all after it."""
        clear_after = kwargs.pop("clear_after", False)
        with self._mutex:
            try:
                return fun(*args, **kwargs)
            finally:
                if clear_after:
                    self._clear()

    def clear(self, ready: bool = True) -> None:
        """Forgets workers, and tasks: with `ready` those that have ended, else all."""
        with self._mutex:
            self._clear(ready)

    def clear_tasks(self, ready: bool = True) -> None:
        """Forgets tasks: with `ready` those that have ended, else all."""
        with self._mutex:
            self._clear_tasks(ready)

    def _clear(self, ready: bool = True) -> None:
        self.workers.clear()
        self._clear_tasks(ready)
        self.event_count = self.task_count = 0

    def _clear_tasks(self, ready: bool) -> None:
        kept = {
            uuid: task
            for uuid, task in self.itertasks()
            if ready and task.state not in states.READY_STATES
        }
        self.tasks.clear()
        self.tasks.update(kept)
        self._taskheap.clear()

    def rebuild_taskheap(self) -> None:
        """Orders the tasks anew by what is known of them."""
        moments = [
            _At(task.clock, task.timestamp, task.origin, ref(task)) for task in self.tasks.values()
        ]
        self._taskheap[:] = sorted(moments)

    def __repr__(self) -> str:
        return f"<State: events={self.event_count} tasks={self.task_count}>"

    def __reduce__(self) -> tuple[Any, ...]:
        def ids(index: Index) -> dict[str, list[Any]]:
            return {name: [task.uuid for task in tasks] for name, tasks in index.items()}

        counts = (self.max_workers_in_memory, self.max_tasks_in_memory)
        hooks = (self.on_node_join, self.on_node_leave)
        indexes = (ids(self.tasks_by_type), ids(self.tasks_by_worker))
        kept = (self.event_callback, self.workers, self.tasks, None)
        return self.__class__, (*kept, *counts, *hooks, *indexes)
