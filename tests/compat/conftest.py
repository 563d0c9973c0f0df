"""Both sides of the compatibility tests, on one Redis."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from support.process import Process
from support.site import Site


class Mixed(Site):
    """A site whose queue is Celery's."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.folder, site.broker, site.results)

    @property
    def env(self) -> dict[str, str]:
        return super().env | {"STOCK_URL": self.broker}

    def client(self, **conf: object) -> object:
        return super().client(task_protocol=2, **conf)

    def celery_worker(self, *options: str) -> Process:
        """A stock Celery worker."""
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "stock",
            "worker",
            "-l",
            "INFO",
            "--without-mingle",
        ]
        command += ["--without-gossip", *(options or ("-c", "2"))]
        # Killed, it leaves the temporary folders of its processes behind.
        worker = Process(command, cwd=self.folder, env=self.env | {"TMPDIR": str(self.folder)})
        self.processes.append(worker)
        worker.wait_for(r"\bready\.")
        return worker

    def taskcore_worker(self, *options: str) -> Process:
        """A taskcore worker on Celery's queue."""
        return self.worker("-Q", "celery", *(options or ("-c", "2")))


@pytest.fixture
def mixed(redis_site: Site) -> Iterator[Mixed]:
    """One Redis, two kinds of clients and workers."""
    with Mixed(redis_site) as made:
        yield made


@pytest.fixture
def stock(mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A stock Celery client in this process."""
    for name, value in mixed.env.items():
        if name != "PYTHONPATH":
            monkeypatch.setenv(name, value)
    sys.modules.pop("stock", None)
    module = importlib.import_module("stock")
    yield module
    module.app.close()
    sys.modules.pop("stock", None)
