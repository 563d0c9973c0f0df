"""A place where one test plays: a folder, a broker, a result store, the sample app, and the
workers it started."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from support.process import Process, Worker, run
from support.wait import DEADLINE, until

APPS = Path(__file__).resolve().parent.parent / "apps"


class Site:
    """Everything of one test, ended with it."""

    def __init__(self, folder: Path, broker: str, results: str) -> None:
        self.folder = folder
        self.broker = broker
        self.results = results
        self.ledger = folder / "ledger"
        self.processes: list[Process] = []
        self._app: Any = None

    def __enter__(self) -> "Site":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        for process in self.processes:
            process.kill()
            if kind is not None:
                print(f"--- {' '.join(process.command)}\n{process.output}")

    @property
    def env(self) -> dict[str, str]:
        """What the sample app reads."""
        return {
            "SAMPLE_LEDGER": str(self.ledger),
            "PYTHONPATH": os.pathsep.join([str(APPS), os.environ.get("PYTHONPATH", "")]).rstrip(
                os.pathsep
            ),
        }

    @property
    def globals_(self) -> list[str]:
        """Options in front of every command."""
        return ["-b", self.broker, "--result-backend", self.results]

    @property
    def app(self) -> Any:
        """The sample app as a client of this broker."""
        if self._app is None:
            self._app = self.client()
        return self._app

    def client(self, **conf: Any) -> Any:
        """Another client app, with settings of its own."""
        import sample

        return sample.make(broker_url=self.broker, result_backend=self.results, **conf)

    def task(self, name: str) -> Any:
        """A task of the sample app."""
        return self.app.tasks[f"sample.{name}"]

    def worker(
        self,
        *options: str,
        ready: bool = True,
        app: str = "sample",
        env: dict[str, str] | None = None,
    ) -> Worker:
        """Starts a worker, two processes unless `options` say otherwise, logging at INFO."""
        chosen = list(options)
        if "-c" not in chosen and "-P" not in chosen:
            chosen += ["-c", "2"]
        if "-l" not in chosen:
            chosen += ["-l", "INFO"]
        read = self.env | (env or {})
        if "-P" in chosen and "prefork" not in chosen:
            read |= {"SAMPLE_NO_HARD_LIMITS": "1"}
        worker = Worker(app, *chosen, cwd=self.folder, globals_=self.globals_, env=read)
        self.processes.append(worker)
        return worker.ready() if ready else worker

    def cli(self, *words: str, code: int | None = 0, timeout: float = DEADLINE) -> str:
        """Runs another command of the CLI to its end and returns its output."""
        return run(
            "-A",
            "sample",
            *self.globals_,
            *words,
            cwd=self.folder,
            env=self.env,
            code=code,
            timeout=timeout,
        )

    def queue(self, name: str = "taskcore") -> dict[str, int]:
        """What a queue holds: depth, in_flight, scheduled, dead."""
        rows = json.loads(self.cli("queues", "--json", "-Q", name))
        found: dict[str, int] = next(row for row in rows if row["queue"] == name)
        return found

    def wait_queue(self, queue: str = "taskcore", **expected: int) -> dict[str, int]:
        """Waits until a queue holds exactly this."""
        last: dict[str, int] = {}

        def matches() -> bool:
            last.update(self.queue(queue))
            return all(last[key] == value for key, value in expected.items())

        until(matches, f"queue `{queue}` to hold {expected}, last {last}")
        return last

    def written(self) -> list[str]:
        """Lines that tasks have written to the ledger, in order."""
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def wait_written(self, count: int, timeout: float = DEADLINE) -> list[str]:
        """Waits until the ledger has `count` lines."""
        until(
            lambda: len(self.written()) >= count,
            f"{count} lines in the ledger, now {len(self.written())}",
            timeout,
        )
        return self.written()

    def gate(self, name: str = "gate") -> Path:
        """A file that tasks wait for; create it to let them pass."""
        return self.folder / name
