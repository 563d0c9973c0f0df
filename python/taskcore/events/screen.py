"""`taskcore top`: workers and tasks on a terminal, kept up to date by their events.

The screen is drawn from a state that a thread feeds; nothing is asked of workers unless a key says
so.
"""

from __future__ import annotations

import curses
import threading
import time
from typing import Any

from taskcore import states

KEYS = "j/k: move   i: details   r: result   c: revoke   t: terminate   q: quit"
WORKERS_MAX = 8
"""Lines for workers at most."""
_COLUMNS = ((36, "id"), (9, "state"), (20, "worker"), (24, "task"), (9, "runtime"))


def rows(state: Any, limit: int) -> list[Any]:
    """The tasks to be shown: those that run first, then the latest."""
    tasks = [task for _, task in state.tasks_by_time(limit=limit * 4)]
    running = [task for task in tasks if task.state == states.STARTED]
    return [*running, *(task for task in tasks if task.state != states.STARTED)][:limit]


def worker_lines(state: Any, width: int) -> list[str]:
    """A line for each worker."""
    lines = []
    for name in sorted(state.workers)[:WORKERS_MAX]:
        worker = state.workers[name]
        load = " ".join(f"{number:.2f}" for number in worker.loadavg or ())
        text = (
            f"{worker.status_string:8}{name:30} active {worker.active or 0:<6}"
            f" processed {worker.processed or 0:<10} load {load}"
        )
        lines.append(text[:width])
    return lines or ["no worker was heard of yet"]


def task_line(task: Any, width: int) -> str:
    """The line of a task."""
    worker = task.worker.hostname if task.worker is not None else ""
    runtime = "" if task.runtime is None else f"{task.runtime:.3f} s"
    cells = (task.uuid, task.state, worker, task.name or "?", runtime)
    text = " ".join(
        f"{cell!s:{size}.{size}}" for (size, _), cell in zip(_COLUMNS, cells, strict=True)
    )
    return text[:width]


def details(task: Any) -> list[str]:
    """All that is known of a task, a line each."""
    known = {"id": task.uuid, "name": task.name, "state": task.state, **task.info()}
    if task.traceback:
        known["traceback"] = task.traceback
    return [line for name, value in known.items() for line in f"{name}: {value}".splitlines()]


class Screen:
    """The terminal.

    Args:
        window: of curses.
        frequency: seconds between two looks at the state.
        failed: gets what ends the thread that listens; the screen ends with it.
    """

    def __init__(
        self, window: Any, app: Any, state: Any, frequency: float, failed: list[BaseException]
    ) -> None:
        self.window, self.app, self.state = window, app, state
        self.failed = failed
        self.selected: str | None = None
        self.shown: list[str] | None = None
        """A page in the place of the list."""
        self.note = ""
        self._last, self._counts = time.monotonic(), (0, 0)
        curses.curs_set(0)
        window.timeout(max(int(frequency * 1000), 50))

    def run(self) -> None:
        """Draws and obeys keys until it is told to quit."""
        while not self.failed:
            height, width = self.window.getmaxyx()
            listed = self.state.freeze_while(rows, self.state, max(height - WORKERS_MAX - 6, 1))
            ids = [task.uuid for task in listed]
            if self.selected not in ids:
                self.selected = ids[0] if ids else None
            self.draw(listed, height, width - 1)
            key = self.window.getch()
            if key in (ord("q"), 27) and self.shown is None:
                return
            self.press(key, ids)

    def press(self, key: int, ids: list[str]) -> None:
        """Obeys a key."""
        if key == -1 or key == curses.KEY_RESIZE:
            return
        if self.shown is not None:
            self.shown = None
            return
        at = ids.index(self.selected) if self.selected in ids else 0
        if key in (ord("j"), curses.KEY_DOWN) and ids:
            self.selected = ids[min(at + 1, len(ids) - 1)]
        elif key in (ord("k"), curses.KEY_UP) and ids:
            self.selected = ids[max(at - 1, 0)]
        elif self.selected is not None:
            self.act(chr(key) if 0 < key < 256 else "", self.selected)

    def act(self, key: str, task_id: str) -> None:
        """Does something about the selected task."""
        task = self.state.tasks.get(task_id)
        if key == "i" and task is not None:
            self.shown = details(task)
        elif key == "r" and task is not None:
            outcome = task.exception if task.result is None else task.result
            self.shown = [f"{task.state}: {outcome}"]
        elif key in ("c", "t"):
            self.app.control.revoke(task_id, terminate=key == "t")
            self.note = f"asked to {'terminate' if key == 't' else 'revoke'} {task_id}"

    def draw(self, listed: list[Any], height: int, width: int) -> None:
        """Draws everything."""
        self.window.erase()
        now, counts = time.monotonic(), (self.state.event_count, self.state.task_count)
        passed = max(now - self._last, 0.001)
        events, tasks = (
            (new - old) / passed for new, old in zip(counts, self._counts, strict=True)
        )
        self._last, self._counts = now, counts
        head = f"taskcore events: {counts[0]} heard, {events:.0f}/s   {tasks:.0f} tasks/s"
        lines = [(head, curses.A_BOLD)]
        lines += [(line, curses.A_NORMAL) for line in worker_lines(self.state, width)]
        if self.shown is not None:
            lines += [("", 0), *((line, 0) for line in self.shown), ("any key: back", curses.A_DIM)]
        else:
            head = " ".join(f"{name.upper():{size}}" for size, name in _COLUMNS)
            lines += [("", 0), (head, curses.A_BOLD)]
            for task in listed:
                mark = curses.A_REVERSE if task.uuid == self.selected else curses.A_NORMAL
                lines.append((task_line(task, width), mark))
        for y, (line, mark) in enumerate(lines[: height - 1]):
            self.window.addnstr(y, 0, line, width, mark)
        self.window.addnstr(height - 1, 0, self.note or KEYS, width, curses.A_DIM)
        self.window.refresh()


def evtop(app: Any, frequency: float = 1.0) -> None:
    """Shows the screen until it is told to quit."""
    state = app.events.State()
    receiver = app.events.Receiver(handlers={"*": state.event})
    failed: list[BaseException] = []

    def listen() -> None:
        try:
            receiver.capture()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=listen, daemon=True, name="taskcore-screen")
    thread.start()
    try:
        curses.wrapper(lambda window: Screen(window, app, state, frequency, failed).run())
    finally:
        receiver.should_stop = True
        thread.join(2)
    if failed:
        raise failed[0]
