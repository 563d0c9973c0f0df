"""A running worker, as Python sees it: the sender of its signals, and what it may be asked.

Every method is a command to the core's loop and returns once it is carried out. They may be called
from any thread of the worker's process: from a receiver of `worker_ready`, from a thread that it
starts, from a task of the pools `threads` and `solo`. In a child of `prefork` there is no worker,
and each says so.
"""

from __future__ import annotations

import json
import signal as signals_of_os
from collections.abc import Iterable, Mapping
from typing import Any

from taskcore import _core
from taskcore.config.validators import rate_per_second
from taskcore.worker.reload import bring_in
from taskcore.worker.task_spec import make_task_spec


class WorkController:
    """The worker of this process.

    Args:
        app: its app.
        hostname: its node name.
    """

    def __init__(self, app: Any, hostname: str) -> None:
        self.app = app
        self.hostname = hostname
        self._core: _core.Worker | None = None

    def attach(self, worker: _core.Worker) -> None:
        """The core's worker has been made; called once, at boot."""
        self._core = worker

    @property
    def core(self) -> _core.Worker:
        """The core's worker.

        Raises:
            RuntimeError: it has not been made yet.
        """
        if self._core is None:
            raise RuntimeError(
                "the worker has not been made yet, expected a call after `worker_init`: use `worker_ready`"
            )
        return self._core

    def stop(self) -> None:
        """A warm shutdown: what runs may finish. Returns at once."""
        self.core.stop()

    def terminate(self) -> None:
        """A cold shutdown: what runs is killed. Returns at once."""
        self.core.stop(warm=False)

    def revoke(
        self, task_id: str | Iterable[str], terminate: bool = False, signal: str | int = "SIGTERM"
    ) -> dict[str, list[str]]:
        """Drops tasks wherever they wait in this worker, and when they come within three hours.

        Args:
            task_id: an id, or several.
            terminate: also end those that run.
            signal: how: its name or number. What does not end the process of the task within ten
                seconds is followed by SIGKILL, except SIGUSR1, which raises
                `SoftTimeLimitExceeded` in the task and leaves the rest to it.

        Returns:
            Ids by what became of them: `dropped`, `terminated`, `running`. Those that are not here
            are in none.

        Raises:
            ValueError: there is no such signal.
            NotSupportedError: the pool cannot end a task that way.
        """
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        return self.core.revoke(ids, signal=_number(signal) if terminate else None)

    def rate_limit(self, task_name: str, rate_limit: str | float | None) -> float | None:
        """Lets so many executions of a task begin here: `10/s`, `100/m`, `5/h`, a number per second;
        None or 0 is without limit. Returns the limit before, per second.

        Raises:
            ValueError: no such task, or no such rate.
            NotSupportedError: `worker_disable_rate_limits` is set.
        """
        return self.core.rate_limit(task_name, rate_per_second(rate_limit))

    def time_limit(
        self, task_name: str, soft: float | None = None, hard: float | None = None
    ) -> tuple[float | None, float | None]:
        """Changes the limits of a task, in seconds, for executions that have not begun; a limit that
        came with a message stays. Returns soft and hard limit before.

        Raises:
            ValueError: no such task, or a limit that is not above 0.
            NotSupportedError: a hard limit, and the pool cannot kill.
        """
        return self.core.time_limit(task_name, soft=soft, hard=hard)

    def add_consumer(self, queue: str) -> list[str]:
        """Consumes from another queue; returns the queues from now on."""
        return self.core.consume(queue)

    def cancel_consumer(self, queue: str) -> list[str]:
        """Consumes from a queue no longer; what was claimed from it still runs here. Without the last
        one the worker claims nothing. Returns the queues from now on.

        Raises:
            ValueError: it is not consumed here.
        """
        return self.core.cancel(queue)

    def pool_grow(self, n: int = 1) -> int:
        """Runs so many more tasks at a time; returns how many from now on."""
        return self.core.grow(n)

    def pool_shrink(self, n: int = 1) -> int:
        """Runs so many fewer tasks at a time; what runs is not touched. Returns how many from now on.

        Raises:
            ValueError: none would be left.
        """
        return self.core.shrink(n)

    def autoscale(self, max: int | None = None, min: int | None = None) -> tuple[int, int]:
        """Changes between what the pool grows and shrinks by itself; returns the most and the fewest
        from now on.

        Raises:
            NotSupportedError: the worker was started without `--autoscale`.
            ValueError: the most is below the fewest.
        """
        return self.core.autoscale(max, min)

    def pool_restart(self, modules: Iterable[str] = (), reload: bool = False) -> None:
        """Replaces the processes of the pool, each when its task has ended. Returns when that has
        begun.

        Args:
            modules: are imported first, here and in the new processes.
            reload: import those anew that were imported before.

        Raises:
            NotSupportedError: the pool has no processes.
        """
        named = [(str(name), reload) for name in modules]
        bring_in(self.app, named)
        specs = [make_task_spec(task) for task in self.app.tasks.values()]
        self.core.restart(specs, json.dumps(named))

    def stats(self) -> dict[str, Any]:
        """The figures of this moment: see `_core.Worker.stats`."""
        stats: dict[str, Any] = self.core.report()["stats"]
        return stats

    def active(self) -> list[dict[str, Any]]:
        """Tasks that have run for longer than some milliseconds."""
        return [self._info(held) for held in self.core.report()["active"]]

    def reserved(self) -> list[dict[str, Any]]:
        """Tasks that wait for a slot or for their rate limit."""
        return [self._info(held) for held in self.core.report()["reserved"]]

    def scheduled(self) -> list[dict[str, Any]]:
        """Tasks that wait here for their due time. What is due later than two seconds from now waits
        in the broker."""
        return [
            {"eta": _core.read_message(held["message"])["eta"], "request": self._info(held)}
            for held in self.core.report()["scheduled"]
        ]

    def revoked(self) -> list[str]:
        """Ids that are dropped when they come, the oldest first."""
        ids: list[str] = self.core.revoked()
        return ids

    def active_queues(self) -> list[str]:
        """The queues that it consumes from."""
        queues: list[str] = self.core.report()["queues"]
        return queues

    def query_task(self, *ids: str) -> dict[str, tuple[str, dict[str, Any]]]:
        """Where tasks are: `active`, `reserved` or `scheduled`, and what is known of each; those that
        are not here are left out."""
        report = self.core.report()
        return {
            held["id"]: (state, self._info(held))
            for state in ("active", "reserved", "scheduled")
            for held in report[state]
            if held["id"] in ids
        }

    def _info(self, held: Mapping[str, Any]) -> dict[str, Any]:
        message = _core.read_message(held["message"])
        return {
            "id": held["id"],
            "name": held["name"],
            "type": held["name"],
            "args": message["args"],
            "kwargs": message["kwargs"],
            "hostname": self.hostname,
            "time_start": held["time_start"],
            "acknowledged": held["acknowledged"],
            "delivery_info": {"queue": held["queue"], "redelivered": held["redeliveries"] > 0},
            "worker_pid": held["worker_pid"],
        }


def _number(name: str | int) -> int:
    if isinstance(name, int):
        return int(name)
    full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    number = getattr(signals_of_os, full, None)
    if not isinstance(number, signals_of_os.Signals):
        raise ValueError(f"signal `{name}`, expected the name of one, like `SIGTERM`")
    return int(number)
