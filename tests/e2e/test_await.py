"""`await result`: in any event loop, without a thread for each, on every store."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.process import python
from support.site import Site
from taskcore import Taskcore
from taskcore.exceptions import TaskcoreError
from taskcore.result import AsyncResult

WAIT = 30
COUNT = 200


@pytest.fixture(params=["memory", "sqlite", "redis"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Taskcore]:
    """A client; the tests store for it what a worker would."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
    else:
        url = (
            f"sqlite:///{tmp_path / 'queue.db'}"
            if request.param == "sqlite"
            else f"memory://{tmp_path.name}"
        )
    with Taskcore("client", broker=url, backend=url) as made:
        yield made


async def value_of(app: Taskcore, task_id: str) -> Any:
    return await AsyncResult(task_id, app=app)


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_a_worker_answers(site: Site) -> None:
    site.worker()
    add, fail = site.task("add"), site.task("fail")

    async def main() -> None:
        assert await add.delay(1, 2) == 3
        results = [add.delay(n, n) for n in range(300)]
        assert await asyncio.gather(*results) == [2 * n for n in range(300)]
        with pytest.raises(ValueError, match="on purpose"):
            await fail.delay("on purpose")

    asyncio.run(main())


def test_many_need_no_thread_each(app: Taskcore) -> None:
    async def main() -> list[Any]:
        first = asyncio.create_task(value_of(app, "first"))
        app.backend.put("ready", "SUCCESS", 0)
        assert await value_of(app, "ready") == 0
        of_python, of_all = threading.active_count(), threads()
        many = [asyncio.create_task(value_of(app, f"{n}")) for n in range(COUNT)]
        assert await value_of(app, "ready") == 0
        # Those of Python's executor, and all; of the others some may begin or end with what earlier
        # tests left.
        assert threading.active_count() == of_python and threads() < of_all + COUNT / 10
        for n in range(COUNT):
            app.backend.put(f"{n}", "SUCCESS", n)
        app.backend.put("first", "SUCCESS", "one")
        assert await asyncio.to_thread(lambda: "free") == "free"
        return [await first, *await asyncio.gather(*many)]

    assert asyncio.run(asyncio.wait_for(main(), WAIT)) == ["one", *range(COUNT)]


def test_a_timeout_takes_effect_at_once_and_leaves_nothing(app: Taskcore) -> None:
    async def main() -> None:
        waiting = [asyncio.create_task(value_of(app, "late")) for _ in range(50)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(AsyncResult("late", app=app), 0.01)
        async with asyncio.timeout(WAIT):
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(main())
    app.backend.put("late", "SUCCESS", 5)
    assert asyncio.run(value_of(app, "late")) == 5


def test_loops_in_several_threads(app: Taskcore) -> None:
    got: list[Any] = []

    async def wait() -> list[Any]:
        found: list[Any] = await asyncio.gather(*(value_of(app, f"{n}") for n in range(50)))
        return found

    loops = [
        threading.Thread(target=lambda: got.append(asyncio.run(asyncio.wait_for(wait(), WAIT))))
        for _ in range(4)
    ]
    for loop in loops:
        loop.start()
    for n in range(50):
        app.backend.put(f"{n}", "SUCCESS", n)
    for loop in loops:
        loop.join()
    assert got == [list(range(50))] * 4


def test_a_loop_that_was_closed_is_told_nothing(
    app: Taskcore, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(value_of(app, "i"))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    app.backend.put("i", "SUCCESS", 1)
    app.backend.put("j", "SUCCESS", 2)
    assert asyncio.run(value_of(app, "j")) == 2
    assert not waiting.done() and not unraisable


def test_what_a_task_raised_is_raised(app: Taskcore) -> None:
    app.backend.put("i", "FAILURE", {"exc_type": "SystemExit", "exc_message": [3]})
    with pytest.raises(TaskcoreError, match="SystemExit: 3"):
        asyncio.run(value_of(app, "i"))


def test_a_forked_process_waits_for_itself(site: Site) -> None:
    code = f"""
import asyncio, os
from taskcore import Taskcore
app = Taskcore("client", broker={site.broker!r}, backend={site.results!r})
async def wait(task_id):
    waiting = asyncio.create_task(get(task_id))
    await asyncio.sleep(0)
    app.backend.put(task_id, "SUCCESS", task_id)
    return await asyncio.wait_for(waiting, {WAIT})
async def get(task_id):
    return await app.AsyncResult(task_id)
async def main():
    pending = asyncio.create_task(get("never"))
    print(await wait("parent"))
    if os.fork() == 0:
        os._exit(asyncio.run(wait("child")) != "child")
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    print(await wait("again"))
    pending.cancel()
asyncio.run(main())
"""
    assert python(code, cwd=site.folder).split() == ["parent", "again"]
