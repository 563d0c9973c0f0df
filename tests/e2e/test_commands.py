"""What a running worker can be asked, through a worker from the installed wheel."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.site import Site
from support.wait import until
from taskcore.exceptions import TaskRevokedError, TimeLimitExceeded

WAIT = 30


class Commanded(Site):
    """A site whose worker takes commands."""

    def client(self, **conf: Any) -> Any:
        import commanded

        return commanded.make(broker_url=self.broker, result_backend=self.results, **conf)

    def start(self, *options: str) -> Any:
        """A worker, and the socket that it takes commands from."""
        worker = self.worker(*options, app="commanded")
        until(lambda: (self.folder / "commands").exists(), "the socket")
        return worker

    def ask(self, name: str, *args: Any) -> Any:
        """The answer to a command."""
        before = os.getcwd()
        os.chdir(self.folder)  # the path of a socket is short
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect("commands")
                with connection.makefile("rw") as lines:
                    lines.write(json.dumps([name, args]) + "\n")
                    lines.flush()
                    answer = json.loads(lines.readline())
        finally:
            os.chdir(before)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["value"]

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """Publishes a task of the app."""
        return self.app.tasks[f"commanded.{name}"].apply_async(args, **options)

    def hold(self, name: str, task: str = "hold", **options: Any) -> Any:
        """Publishes a task that waits for a file, and waits until it does."""
        call = self.call(task, str(self.folder / name), **options)
        until(lambda: bool(self.holders(name)), f"`{name}` to begin")
        return call

    def holders(self, name: str) -> list[int]:
        """Processes that wait, or waited, for a file."""
        return [int(path.suffix[1:]) for path in self.folder.glob(f"{name}.*")]

    def release(self, name: str) -> None:
        """Makes the file."""
        (self.folder / name).touch()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Commanded]:
    url = f"sqlite:///{tmp_path / 'queue.db'}"
    with Commanded(tmp_path, url, url) as made:
        yield made


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_pool_grows_and_shrinks_while_tasks_run(site: Commanded, pool: str) -> None:
    worker = site.start("-P", pool, "-c", "1")
    assert site.ask("pool_grow", 4) == 5
    calls = [site.hold(f"gate{n}") for n in range(5)]
    until(lambda: len(site.ask("active")) == 5, "five to run")
    assert site.ask("pool_shrink", 3) == 2
    site.release("gate0")
    before = [call.get(timeout=WAIT) for call in calls[:1]]
    for n in range(1, 5):
        site.release(f"gate{n}")
    pids = {*before, *(call.get(timeout=WAIT) for call in calls[1:])}
    assert len(pids) == (5 if pool == "prefork" else 1), "none of them was disturbed"
    if pool == "prefork":
        until(lambda: len(worker.children()) == 3, "the zygote and two children")
    assert site.call("add", 1).get(timeout=WAIT) == 2
    with pytest.raises(RuntimeError, match="cannot shrink a pool of `2` by `2`, expected"):
        site.ask("pool_shrink", 2)
    assert worker.stop() == 0
    assert "and is replaced" not in worker.output


@pytest.mark.parametrize("task", ["hold", "late"])
@pytest.mark.parametrize("signal", ["SIGTERM", "KILL", "INT"])
def test_a_task_that_runs_is_terminated_and_not_run_again(
    site: Commanded, task: str, signal: str
) -> None:
    worker = site.start("-c", "2")
    call, other = site.hold("gate", task), site.hold("other")
    answer = site.ask("revoke", call.id, True, signal)
    assert answer == {"dropped": [], "terminated": [call.id], "running": []}
    with pytest.raises(TaskRevokedError, match="terminated"):
        call.get(timeout=WAIT)
    assert call.state == "REVOKED"
    worker.wait_for("was terminated|revoked: terminated by signal")
    site.release("other")
    assert other.get(timeout=WAIT) in site.holders("other")
    site.wait_queue(depth=0, in_flight=0)
    assert len(site.holders("gate")) == 1
    assert worker.stop() == 0


def test_what_waits_is_revoked_and_what_comes_too(site: Commanded) -> None:
    worker = site.start("-c", "1")
    running = site.hold("gate")
    waiting = [site.call("add", n) for n in range(2)]
    later = site.call("add", 1, countdown=1.5)
    until(lambda: len(site.ask("reserved")) == 2, "two to wait")
    until(lambda: len(site.ask("scheduled")) == 1, "one to be due")
    found = site.ask("query_task", running.id, waiting[0].id, later.id, "unknown")
    assert {task_id: state for task_id, (state, _) in found.items()} == {
        running.id: "active",
        waiting[0].id: "reserved",
        later.id: "scheduled",
    }
    assert found[waiting[0].id][1]["args"] == [0]
    assert found[running.id][1]["worker_pid"] == site.holders("gate")[0]
    ids = [call.id for call in (running, *waiting, later)]
    answer = site.ask("revoke", ["unknown", *ids])
    assert answer["running"] == [running.id] and sorted(answer["dropped"]) == sorted(ids[1:])
    assert site.ask("revoked") == ["unknown", *ids]
    for call in (*waiting, later):
        with pytest.raises(TaskRevokedError):
            call.get(timeout=WAIT)
    with pytest.raises(TaskRevokedError):
        site.call("add", 1, task_id="unknown").get(timeout=WAIT)
    site.release("gate")
    assert running.get(timeout=WAIT) == site.holders("gate")[0]
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_sigusr1_raises_the_soft_limit(site: Commanded, pool: str) -> None:
    site.start("-P", pool, "-c", "1")
    call = site.hold("gate", "guarded")
    assert site.ask("revoke", call.id, True, "SIGUSR1")["terminated"] == [call.id]
    assert call.get(timeout=WAIT) == "noticed"


def test_a_thread_is_told_to_exit_and_cannot_be_killed(site: Commanded) -> None:
    worker = site.start("-P", "threads", "-c", "1")
    call = site.hold("gate")
    with pytest.raises(RuntimeError, match="signal `9` cannot end a task of the pool `threads`"):
        site.ask("revoke", call.id, True, "SIGKILL")
    assert site.ask("revoke", call.id, True)["terminated"] == [call.id]
    with pytest.raises(TaskRevokedError, match="terminated"):
        call.get(timeout=WAIT)
    assert site.call("add", 1).get(timeout=WAIT) == 2, "the thread goes on"
    assert worker.stop() == 0


def test_limits_are_changed(site: Commanded) -> None:
    site.start("-c", "1")
    assert site.ask("time_limit", "commanded.hold", None, 0.3) == [None, None]
    with pytest.raises(TimeLimitExceeded):
        site.call("hold", str(site.folder / "never")).get(timeout=WAIT)
    assert site.ask("time_limit", "commanded.hold") == [None, 0.3]
    assert site.ask("rate_limit", "commanded.add", "10/m") is None
    assert site.ask("rate_limit", "commanded.add", None) == pytest.approx(1 / 6)
    for command, error in (
        (("rate_limit", "commanded.ad", "1/s"), "did you mean `commanded.add`"),
        (("rate_limit", "commanded.add", "1/x"), "has no period"),
        (("time_limit", "commanded.add", -1), "expected seconds above 0"),
        (("revoke", "x", True, "SIGWHAT"), "signal `SIGWHAT`, expected the name of one"),
        (("revoke", "x", True, 18), "expected one that ends a task"),
    ):
        with pytest.raises(RuntimeError, match=error):
            site.ask(*command)


def test_queues_come_and_go(site: Commanded) -> None:
    worker = site.start("-c", "1")
    running = site.hold("gate", "late")
    other = site.call("add", 1, queue="other")
    assert site.ask("add_consumer", "other") == ["taskcore", "other"]
    assert site.ask("cancel_consumer", "taskcore") == ["other"]
    left = site.call("add", 2)
    site.release("gate")
    assert running.get(timeout=WAIT) and other.get(timeout=WAIT) == 2
    site.wait_queue(depth=1, in_flight=0)
    assert site.ask("active_queues") == ["other"]
    site.ask("add_consumer", "taskcore")
    assert left.get(timeout=WAIT) == 3
    with pytest.raises(RuntimeError, match="is not consumed here, expected one that is: `other`"):
        site.ask("cancel_consumer", "oter")
    assert len(site.holders("gate")) == 1
    assert worker.stop() == 0
