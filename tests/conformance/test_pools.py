"""What every pool promises, and what only some can, through a worker from the installed wheel."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.site import Site
from support.wait import until
from taskcore.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError

WAIT = 30
POOLS = ["prefork", "asyncio", "threads", "solo"]


class Pools(Site):
    """A site with the app of these tests."""

    def client(self, **conf: Any) -> Any:
        import pools

        return pools.make(broker_url=self.broker, result_backend=self.results, **conf)

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """Publishes a task of the app."""
        return self.app.tasks[f"pools.{name}"].apply_async(args, **options)

    def get(self, name: str, *args: Any, **options: Any) -> Any:
        """Publishes it and waits for what it returns."""
        return self.call(name, *args, **options).get(timeout=WAIT)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Pools]:
    url = f"sqlite:///{tmp_path / 'queue.db'}"
    with Pools(tmp_path, url, url) as made:
        yield made


def start(site: Site, pool: str, *options: str) -> Any:
    return site.worker("-P", pool, *(() if "-c" in options else ("-c", "2")), *options, app="pools")


@pytest.mark.parametrize("pool", POOLS)
def test_values_and_exceptions_come_back(site: Pools, pool: str) -> None:
    worker = start(site, pool)
    assert site.get("add", 2, 3) == 5
    assert site.get("echo", {"a": [1, None, "ü"]}) == {"a": [1, None, "ü"]}
    with pytest.raises(ValueError) as raised:
        site.get("fail")
    assert raised.value.args == ("boom", 42)
    with pytest.raises(BaseException, match="3"):
        site.get("leave")
    with pytest.raises(Exception, match="object"):
        site.get("unencodable")
    assert site.get("add", 1) == 2, "the pool goes on after each of them"
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_process_that_a_task_forks_is_no_worker(site: Pools, pool: str) -> None:
    worker = start(site, pool)
    for how, code in (("return", 0), ("exit", 7), ("raise", 1)):
        assert site.get("fork", how) == code, how
    worker.wait_for("ValueError: in the fork")
    assert site.get("add", 1) == 2
    assert "replaced" not in worker.output, "it answered for the one that forked it"
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_process_that_a_task_forks_can_be_told_to_end(site: Pools, pool: str) -> None:
    start(site, pool)
    assert site.get("terminate") == -signal.SIGTERM


@pytest.mark.parametrize("pool", POOLS)
def test_temporary_folders_do_not_stay_behind(site: Pools, pool: str) -> None:
    worker = start(site, pool, "-c", "1")
    folder = Path(site.get("temporary"))
    assert folder.is_dir()
    assert worker.stop() == 0
    assert not folder.exists()


@pytest.mark.parametrize("pool", POOLS)
def test_a_soft_limit_is_raised_in_the_task(site: Pools, pool: str) -> None:
    start(site, pool)
    assert site.get("busy", soft_time_limit=0.2) == "noticed"
    with pytest.raises(SoftTimeLimitExceeded):
        site.get("hold", str(site.gate()), soft_time_limit=0.2)
    assert site.get("add", 1) == 2


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_soft_limit_interrupts_a_call_into_the_system(site: Pools, pool: str) -> None:
    start(site, pool)
    assert site.get("asleep", soft_time_limit=0.2) == "noticed"
    assert site.get("add", 1) == 2


@pytest.mark.parametrize("pool", POOLS)
def test_each_coroutine_runs_in_a_context_of_its_own(site: Pools, pool: str) -> None:
    start(site, pool, "-c", "1")
    for n in range(3):
        call = site.call("context", n)
        assert call.get(timeout=WAIT) == [call.id, [n], False]
    assert site.get("retried", 2) == 2


@pytest.mark.parametrize("how", ["sleep", "group", "child", "timeout", "busy"])
@pytest.mark.parametrize("pool", POOLS)
def test_a_soft_limit_is_raised_in_a_coroutine(site: Pools, pool: str, how: str) -> None:
    worker = start(site, pool, "-c", "1")
    call = site.call("awaits", how, str(site.folder), soft_time_limit=0.2)
    if how == "sleep":
        with pytest.raises(SoftTimeLimitExceeded):
            call.get(timeout=WAIT)
    else:
        assert call.get(timeout=WAIT) == "noticed"
    assert site.gate("except").exists() and site.gate("finally").exists()
    assert site.gate("child").exists() is (how in ("group", "child", "timeout"))
    # Nothing of it goes on in the next call of the same loop.
    call = site.call("context", 1)
    assert call.get(timeout=WAIT) == [call.id, [1], False]
    assert "still running" not in worker.output


@pytest.mark.parametrize("pool", POOLS)
def test_what_a_coroutine_leaves_running_ends_with_it(site: Pools, pool: str) -> None:
    worker = start(site, pool, "-c", "1")
    call = site.call("leaves", str(site.folder))
    assert call.get(timeout=WAIT) == "running"
    assert site.gate("cancelled").exists()
    worker.wait_for(
        rf"pools.leaves\[{call.id}\]` returned while `errand` \(.*left_behind\) was still running"
    )


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("pool", POOLS)
def test_what_json_cannot_write_is_no_reason_to_store_nothing(
    site: Pools, pool: str, extended: bool
) -> None:
    env = {"POOLS_EXTENDED": "1"} if extended else {}
    site.worker("-P", pool, "-c", "1", app="pools", env=env)
    result = site.call("spoil", [1])
    assert result.get(timeout=WAIT) == 2
    if extended:
        assert "<object object at" in result.args and result.kwargs == {}
    with pytest.raises(ValueError, match="spoiled"):
        site.get("spoil", [1], True)
    with pytest.raises(Exception, match="object"):
        site.get("unencodable")


def test_threads_have_the_stack_of_pythons_own(site: Pools) -> None:
    worker = start(site, "threads")
    assert site.get("stack") == 8 << 20
    worker.stop()
    site.worker("-P", "threads", "-c", "1", app="pools", env={"POOLS_STACK": str(32 << 20)})
    assert site.get("stack") == 32 << 20


def test_a_hard_limit_kills_the_process_and_it_is_replaced(site: Pools) -> None:
    start(site, "prefork", "-c", "1")
    before = site.get("pid")
    with pytest.raises(TimeLimitExceeded):
        site.get("asleep", time_limit=0.2)
    assert site.get("pid") != before


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_hard_limit_is_refused_where_nothing_can_be_killed(site: Pools, pool: str) -> None:
    worker = site.worker("-P", pool, "--time-limit", "5", app="pools", ready=False)
    assert worker.wait() != 0
    assert f"pool `{pool}` cannot keep the time limit of `5` s for every task" in worker.output


@pytest.mark.parametrize("how", ["die", "segfault"])
def test_a_process_that_dies_loses_its_task_alone(site: Pools, how: str) -> None:
    start(site, "prefork")
    lost = site.call(how)
    others = [site.call("add", n) for n in range(200)]
    assert [other.get(timeout=WAIT) for other in others] == list(range(1, 201))
    with pytest.raises(WorkerLostError, match="SIGKILL" if how == "die" else "SIGSEGV"):
        lost.get(timeout=WAIT)


def test_an_idle_process_that_is_killed_is_replaced(site: Pools) -> None:
    worker = start(site, "prefork", "-c", "1")
    victim = site.get("pid")
    os.kill(victim, signal.SIGKILL)
    worker.wait_for(rf"child `{victim}` ended .*SIGKILL.* replaced")
    assert site.get("pid") != victim


def test_processes_are_replaced_after_their_number_of_tasks(site: Pools) -> None:
    start(site, "prefork", "-c", "1", "--max-tasks-per-child", "3")
    pids = [site.get("pid") for _ in range(9)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]


def test_many_tasks_pass_processes_that_are_replaced_all_the_time(site: Pools) -> None:
    start(site, "prefork", "--max-tasks-per-child", "20")
    results = [site.call("add", n) for n in range(500)]
    assert [r.get(timeout=WAIT) for r in results] == list(range(1, 501))


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_long_task_delays_no_short_one(site: Pools, pool: str) -> None:
    start(site, pool)
    # Short ones first, so that the pool has learned to queue several at one slot.
    for n in [site.call("add", n) for n in range(300)]:
        n.get(timeout=WAIT)
    gate = site.gate()
    held = site.call("hold", str(gate))
    short = [site.call("add", n) for n in range(300)]
    assert [s.get(timeout=WAIT) for s in short] == list(range(1, 301))
    assert not held.ready()
    gate.touch()
    held.get(timeout=WAIT)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_as_many_run_at_once_as_there_are_slots(site: Pools, pool: str) -> None:
    start(site, pool)
    one, two = str(site.gate("one")), str(site.gate("two"))
    first, second = site.call("meet", one, two), site.call("meet", two, one)
    assert (first.get(timeout=WAIT), second.get(timeout=WAIT)) == (one, two)


@pytest.mark.parametrize("pool", POOLS)
def test_ten_megabytes_pass_both_ways(site: Pools, pool: str) -> None:
    start(site, pool)
    value = "ten megabytes" * (10 * 1024 * 1024 // 13)
    assert site.get("echo", value) == value


def test_processes_draw_different_random_numbers(site: Pools) -> None:
    start(site, "prefork", "--max-tasks-per-child", "1")
    drawn = [site.get("draw") for _ in range(4)]
    assert len(set(drawn)) == 4


def test_programs_of_tasks_keep_the_default_signals(site: Pools) -> None:
    start(site, "prefork")
    assert site.get("program", int(signal.SIGTERM)) == -signal.SIGTERM
    assert site.get("program", int(signal.SIGINT)) != 0


def test_a_cold_stop_ends_the_task_of_a_solo_worker(site: Pools) -> None:
    worker = start(site, "solo")
    site.call("asleep")
    worker.wait_for("received")
    worker.signal(signal.SIGTERM)
    worker.wait_for("(?i)warm shutdown")
    worker.signal(signal.SIGTERM)
    worker.wait()


def test_the_processes_end_with_a_warm_stop(site: Pools) -> None:
    worker = start(site, "prefork")
    until(lambda: len(worker.children()) == 3, "the zygote and two children")
    below = worker.children()
    assert worker.stop() == 0

    def gone() -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in below)

    until(gone, "the children to be gone")


def test_a_worker_whose_zygote_was_killed_ends_with_the_reason(site: Pools) -> None:
    worker = start(site, "prefork")
    begun = site.gate("begun")
    held = site.call("meet", str(begun), str(site.gate()))
    until(begun.exists, "the task to begin")
    zygote = int(Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()[0])
    os.kill(zygote, signal.SIGKILL)
    assert worker.wait() != 0
    assert "zygote" in worker.output
    with pytest.raises(WorkerLostError):
        held.get(timeout=WAIT)


def test_what_a_task_prints_is_seen_at_once(site: Pools) -> None:
    worker = start(site, "prefork")
    site.call("say", "hello from a task")
    worker.wait_for("hello from a task")
