"""How many processes a worker has: by what there is to do, by memory, and made anew."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.site import Site
from support.wait import until

WAIT = 30

TASKS = """
import os
from taskcore import shared_task

@shared_task(name="more.version")
def version():
    return {version}
"""


class Sized(Site):
    """A site whose workers import modules of its own."""

    @property
    def env(self) -> dict[str, str]:
        read = super().env
        # Bytecode is looked up by the second.
        return read | {
            "PYTHONPATH": f"{self.folder}:{read['PYTHONPATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def tell(self, command: str, **arguments: Any) -> Any:
        """The answer of the one worker."""
        [reply] = self.app.control.broadcast(command, arguments, reply=True, limit=1, timeout=WAIT)
        [answer] = reply.values()
        return answer

    def stats(self) -> dict[str, Any]:
        """What the one worker says of itself."""
        stats: dict[str, Any] = self.tell("stats")
        return stats

    def processes_of_pool(self) -> set[int]:
        """Its children."""
        return set(self.stats()["pool"]["processes"])


@pytest.fixture
def sized(sqlite_site: Site) -> Iterator[Sized]:
    with Sized(sqlite_site.folder, sqlite_site.broker, sqlite_site.results) as made:
        yield made


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_pool_grows_to_what_there_is_to_do_and_shrinks_again(site: Site, pool: str) -> None:
    sized = Sized(site.folder, site.broker, site.results)
    sized.processes = site.processes  # which ends them
    sized.worker("--autoscale", "4,1", "-P", pool, env={"AUTOSCALE_KEEPALIVE": "1"})
    assert sized.stats()["autoscaler"] == {"max": 4, "min": 1, "current": 1, "qty": 0}
    gate = sized.gate()
    held = [sized.task("hold").delay(str(gate)) for _ in range(6)]
    until(lambda: sized.stats()["autoscaler"]["current"] == 4, "the pool to grow")
    if pool == "prefork":
        until(lambda: len(sized.processes_of_pool()) == 4, "four processes")
    gate.touch()
    for result in held:
        result.get(timeout=WAIT)
    until(lambda: sized.stats()["autoscaler"]["current"] == 1, "the pool to shrink")
    if pool == "prefork":
        until(lambda: len(sized.processes_of_pool()) == 1, "one process")
    assert sized.task("add").delay(2, 3).get(timeout=WAIT) == 5


def test_bounds_are_changed_while_it_runs(sized: Sized) -> None:
    sized.worker("--autoscale", "3,1", "-c", "7")
    assert sized.tell("autoscale", max=6, min=4) == {"ok": "autoscale now max=6 min=4"}
    until(lambda: sized.stats()["autoscaler"]["current"] == 4, "the pool to grow")
    assert sized.tell("autoscale", max=2, min=2) == {"ok": "autoscale now max=2 min=2"}
    until(lambda: sized.stats()["autoscaler"]["current"] == 2, "the pool to shrink")
    assert "expected a maximum of at least 1" in sized.tell("autoscale", max=1, min=5)["error"]
    assert "whole number" in sized.tell("autoscale", max="many")["error"]
    sized.tell("pool_grow", n=3)
    assert sized.stats()["autoscaler"] == {"max": 5, "min": 2, "current": 5, "qty": 0}


def test_what_cannot_scale_says_so(sized: Sized) -> None:
    assert "expected MAX,MIN" in sized.cli("worker", "--autoscale", "many", code=2)
    assert "`MAX,MIN` of which MAX is 1 to 1000" in sized.cli(
        "worker", "--autoscale", "2,3", code=1
    )
    assert "solo" in sized.cli("worker", "--autoscale", "2", "-P", "solo", code=1)
    sized.worker()
    assert sized.tell("autoscale", max=2) == {"error": "ValueError('Autoscale not enabled')"}
    assert sized.tell("pool_restart") == {"error": "ValueError('Pool restarts not enabled')"}


def test_a_child_that_has_taken_too_much_memory_is_replaced_after_its_task(sized: Sized) -> None:
    worker = sized.worker("-c", "1", "--max-memory-per-child", "200000")
    first = sized.task("pid").delay().get(timeout=WAIT)
    assert sized.task("pid").delay().get(timeout=WAIT) == first
    sized.task("take_memory").delay(300).get(timeout=WAIT)
    worker.wait_for(rf"child `{first}` has taken `\d+` KiB of memory, more than it may")
    second = sized.task("pid").delay().get(timeout=WAIT)
    assert second != first
    assert sized.task("pid").delay().get(timeout=WAIT) == second


def test_nothing_is_lost_when_every_task_takes_too_much(sized: Sized) -> None:
    worker = sized.worker("-c", "2", "--max-memory-per-child", "1")
    worker.wait_for("each is replaced after every task")
    results = [sized.task("pid").delay() for _ in range(40)]
    pids = [result.get(timeout=WAIT) for result in results]
    assert len(set(pids)) == 40


def test_a_pool_without_processes_has_no_limit_of_memory(sized: Sized) -> None:
    said = sized.cli("worker", "-P", "threads", "--max-memory-per-child", "9", code=1)
    assert "max_memory_per_child needs `prefork`" in said


def write(folder: Path, version: str) -> None:
    module = folder / "more_tasks.py"
    module.write_text(TASKS.format(version=version))
    os.utime(module)


def test_the_pool_is_made_anew_with_new_code(sized: Sized) -> None:
    worker = sized.worker("-c", "2", "-l", "INFO", "--", "worker_pool_restarts=true")
    before = until(lambda: sized.processes_of_pool(), "its processes")
    write(sized.folder, "1")
    gate = sized.gate()
    held = sized.task("hold").delay(str(gate))
    until(lambda: sized.tell("active"), "a task to run")
    assert sized.tell("pool_restart", modules=["more_tasks"]) == {"ok": "reload started"}
    assert sized.app.send_task("more.version").get(timeout=WAIT) == 1
    gate.touch()
    held.get(timeout=WAIT)
    until(lambda: not before & sized.processes_of_pool(), "other processes")
    write(sized.folder, "20")
    assert sized.tell("pool_restart", modules=["more_tasks"], reload=True)["ok"]
    assert sized.app.send_task("more.version").get(timeout=WAIT) == 20
    write(sized.folder, "1 +")
    assert "SyntaxError" in sized.tell("pool_restart", modules=["more_tasks"], reload=True)["error"]
    assert sized.app.send_task("more.version").get(timeout=WAIT) == 20
    refused = sized.tell("pool_restart", modules=["sample"], reload=True)["error"]
    assert "`sample` makes the app" in refused
    assert sized.app.send_task("more.version").get(timeout=WAIT) == 20
    worker.stop()


def test_threads_are_not_restarted(sized: Sized) -> None:
    sized.worker("-P", "threads", "-l", "INFO", "--", "worker_pool_restarts=true")
    assert "restart the worker" in sized.tell("pool_restart")["error"]
