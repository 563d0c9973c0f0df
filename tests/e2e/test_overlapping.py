"""The pool `asyncio`: many coroutines in flight in each process, and what ends them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.site import Site
from support.wait import until
from taskcore import chain, group
from taskcore.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded

WAIT = 30


class Overlapping(Site):
    """A site with the app of these tests."""

    def client(self, **conf: Any) -> Any:
        sys.modules.pop("overlapping", None)
        import overlapping

        overlapping.app.conf.update(broker_url=self.broker, result_backend=self.results, **conf)
        return overlapping.app

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """Publishes a task of the app."""
        return self.app.tasks[f"overlapping.{name}"].apply_async(args, **options)

    def start(self, *options: str, env: dict[str, str] | None = None) -> Any:
        """A worker of one process."""
        processes = () if "-c" in options else ("-c", "1")
        return self.worker("-P", "asyncio", *processes, *options, app="overlapping", env=env)

    def file(self, name: str) -> str:
        """Where a task writes or waits."""
        return str(self.folder / name)


@pytest.fixture(params=["sqlite", "redis"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Overlapping]:
    redis = request.param == "redis"
    url = request.getfixturevalue("redis_url") if redis else f"sqlite:///{tmp_path / 'queue.db'}"
    with Overlapping(tmp_path, url, url) as made:
        yield made


@pytest.mark.parametrize("uvloop", [True, False])
def test_receivers_and_tasks_share_a_loop(site: Overlapping, uvloop: bool) -> None:
    pytest.importorskip("uvloop")
    env = {}
    if not uvloop:
        (site.folder / "hidden").mkdir()
        (site.folder / "hidden" / "uvloop.py").write_text("raise ImportError\n")
        env = {"PYTHONPATH": f"{site.folder / 'hidden'}:{site.env['PYTHONPATH']}"}
    worker = site.start(env=env)
    (of_receiver,), of_task, _ = site.call("loop_of").get(timeout=WAIT)
    assert of_receiver == of_task
    assert of_task.startswith("uvloop") == uvloop
    assert site.call("hold", __file__).get(timeout=WAIT)
    assert worker.stop() == 0
    assert "pool closed" in worker.output


def test_coroutines_overlap_each_in_a_context_of_its_own(site: Overlapping) -> None:
    site.start("--coroutines", "50")
    names = [site.file(f"{n}") for n in range(50)]
    calls = [
        site.call("meet", mine, other)
        for mine, other in zip(names, names[1:] + names[:1], strict=True)
    ]
    for call in calls:
        assert call.get(timeout=WAIT) == [call.id] * 4


def test_functions_run_in_threads_beside_coroutines(site: Overlapping) -> None:
    site.start("--coroutines", "4")
    plain = site.call("function", site.file("a"), site.file("b"))
    meets = site.call("meet", site.file("b"), site.file("a"))
    assert meets.get(timeout=WAIT)[0] == meets.id
    assert plain.get(timeout=WAIT) == site.call("loop_of").get(timeout=WAIT)[2]


def test_no_more_calls_than_coroutines_are_in_flight(site: Overlapping) -> None:
    site.start("--coroutines", "2")
    gate = site.file("gate")
    held = [site.call("hold", gate) for _ in range(2)]
    other = site.call("add", 1, 2)
    inspect = site.app.control.inspect()
    until(
        lambda: [len(tasks) for tasks in (inspect.active() or {}).values()] == [2],
        "two calls in flight",
    )
    assert not other.ready()
    Path(gate).touch()
    assert other.get(timeout=WAIT) == 3
    assert len({call.get(timeout=WAIT) for call in held}) == 1


def test_workflows_and_retries(site: Overlapping) -> None:
    site.start()
    add = site.app.tasks["overlapping.add"]
    assert chain(add.s(1, 2), add.s(3), add.s(4))().get(timeout=WAIT) == 10
    assert group(add.s(n, n) for n in range(20))().get(timeout=WAIT) == [2 * n for n in range(20)]
    assert site.call("retried", 2).get(timeout=WAIT) == 2


def test_a_soft_limit_is_raised_at_the_await(site: Overlapping) -> None:
    site.start()
    beside = site.call("hold", site.file("gate"))
    assert site.call("softly", soft_time_limit=0.2).get(timeout=WAIT) == "noticed"
    path = site.file("softly")
    with pytest.raises(SoftTimeLimitExceeded):
        site.call("noted", path, soft_time_limit=0.2).get(timeout=WAIT)
    assert Path(path).read_text() == "finally"
    assert not beside.ready()
    Path(site.file("gate")).touch()
    assert beside.get(timeout=WAIT)


def test_a_hard_limit_cancels_the_coroutine_and_no_other(site: Overlapping) -> None:
    site.start()
    before = site.call("loop_of").get(timeout=WAIT)[2]
    beside = site.call("hold", site.file("gate"))
    path = site.file("hard")
    with pytest.raises(TimeLimitExceeded):
        site.call("noted", path, time_limit=0.2).get(timeout=WAIT)
    assert Path(path).read_text() == "finally"
    swallowed = site.call("swallows", site.file("gate"), time_limit=0.2)
    until(lambda: site.call("loop_of").get(timeout=WAIT), "the loop goes on")
    Path(site.file("gate")).touch()
    with pytest.raises(TimeLimitExceeded):
        swallowed.get(timeout=WAIT)
    assert beside.get(timeout=WAIT) == before == site.call("loop_of").get(timeout=WAIT)[2]


def test_one_that_does_not_end_takes_its_process_and_others_run_again(site: Overlapping) -> None:
    worker = site.start()
    before = site.call("loop_of").get(timeout=WAIT)[2]
    beside = site.call("hold", site.file("gate"))
    with pytest.raises(TimeLimitExceeded):
        site.call("never_ends", time_limit=0.2).get(timeout=WAIT)
    after = site.call("loop_of").get(timeout=WAIT)[2]
    assert after != before
    Path(site.file("gate")).touch()
    assert beside.get(timeout=WAIT) == after
    assert worker.stop() == 0


def test_a_revoked_coroutine_is_cancelled_and_no_other(site: Overlapping) -> None:
    site.start()
    path = site.file("revoked")
    call = site.call("noted", path)
    beside = site.call("hold", site.file("gate"))
    until(Path(path + ".began").exists, "the task began")
    call.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        call.get(timeout=WAIT)
    assert Path(path).read_text() == "finally"
    Path(site.file("gate")).touch()
    assert beside.get(timeout=WAIT) == site.call("loop_of").get(timeout=WAIT)[2]


def test_a_loop_that_is_blocked_is_reported_with_its_stack(site: Overlapping) -> None:
    worker = site.start()
    call = site.call("blocks", site.file("gate"))
    worker.wait_for("the event loop has not turned")
    worker.wait_for("in blocks")
    Path(site.file("gate")).touch()
    assert call.get(timeout=WAIT) == "unblocked"


def test_a_blocked_loop_does_not_outlive_a_hard_limit(site: Overlapping) -> None:
    site.start()
    with pytest.raises(TimeLimitExceeded):
        site.call("blocks", site.file("never"), time_limit=0.2).get(timeout=WAIT)
    assert site.call("add", 1, 2).get(timeout=WAIT) == 3


def test_what_a_coroutine_leaves_running_is_cancelled_by_name(site: Overlapping) -> None:
    worker = site.start()
    assert site.call("leaves_running").get(timeout=WAIT) == "False"
    worker.wait_for("`left behind` .* was still running, which is cancelled")


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("raises_from_finally", [], "second"),
        ("exits", ["exit"], "3"),
        ("exits", ["interrupt"], "KeyboardInterrupt"),
        ("exits", ["cancelled"], "CancelledError"),
        ("exits", ["close"], "running event loop"),
    ],
)
def test_whatever_a_coroutine_raises_is_one_failure(
    sqlite_overlapping: Overlapping, name: str, args: list[str], said: str
) -> None:
    site = sqlite_overlapping
    worker = site.start()
    before = site.call("loop_of").get(timeout=WAIT)[2]
    with pytest.raises(BaseException) as raised:
        site.call(name, *args).get(timeout=WAIT)
    assert said in f"{raised.value!r} {raised.value}"
    assert site.call("loop_of").get(timeout=WAIT)[2] == before
    assert worker.stop() == 0


def test_a_coroutine_that_stops_the_loop_stops_nothing(sqlite_overlapping: Overlapping) -> None:
    site = sqlite_overlapping
    site.start()
    assert site.call("exits", "stop").get(timeout=WAIT) is None
    assert site.call("add", 1, 2).get(timeout=WAIT) == 3


def test_a_process_is_replaced_after_its_calls(sqlite_overlapping: Overlapping) -> None:
    site = sqlite_overlapping
    worker = site.start("--max-tasks-per-child", "5")
    pids = [site.call("loop_of").get(timeout=WAIT)[2] for _ in range(12)]
    assert len(set(pids)) == 3
    assert worker.stop() == 0


def test_coroutines_are_for_this_pool(sqlite_overlapping: Overlapping) -> None:
    site = sqlite_overlapping
    said = site.cli("worker", "-P", "threads", "--coroutines", "5", code=2)
    assert "--coroutines is for the pool asyncio: add -P asyncio" in said


@pytest.fixture
def sqlite_overlapping(tmp_path: Path) -> Iterator[Overlapping]:
    url = f"sqlite:///{tmp_path / 'queue.db'}"
    with Overlapping(tmp_path, url, url) as made:
        yield made
