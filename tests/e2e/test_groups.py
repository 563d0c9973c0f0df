"""Results of many tasks, through a real worker and on every store."""

import asyncio
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.process import python
from support.site import Site
from taskcore import Taskcore
from taskcore.result import AsyncResult, GroupResult, ResultSet

WAIT = 30
MANY = 2_000


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


def test_many_are_waited_for_while_they_run(site: Site) -> None:
    site.worker()
    add, fail = site.task("add"), site.task("fail")
    results = add.apply_many((n, n) for n in range(MANY))
    assert results.get(timeout=WAIT) == [2 * n for n in range(MANY)]
    assert results.completed_count() == MANY and results.successful()
    mixed = ResultSet([add.delay(1, 2), fail.delay("on purpose"), add.delay(3, 4)])
    with pytest.raises(ValueError, match="on purpose"):
        mixed.get(timeout=WAIT)
    values = mixed.get(timeout=WAIT, propagate=False)
    assert values[::2] == [3, 7] and isinstance(values[1], ValueError)


def test_a_group_is_awaited_and_iterated(site: Site) -> None:
    site.worker()
    add = site.task("add")

    async def main() -> None:
        group = GroupResult("g", [add.delay(n, n) for n in range(200)], app=site.app)
        again = GroupResult("g", group.ids, app=site.app)
        seen = {one.id: one.result async for one in again}
        assert await group == [2 * n for n in range(200)] == [seen[one] for one in group.ids]

    asyncio.run(asyncio.wait_for(main(), WAIT))


def test_a_group_of_another_process_is_restored(site: Site) -> None:
    add = site.task("add")
    group = GroupResult("g", [add.delay(1, 1), add.delay(2, 2)], AsyncResult("p"), app=site.app)
    group.save()
    other = site.client()
    found = GroupResult.restore("g", app=other)
    assert found == group and found.app is other and not found.ready()
    site.worker()
    assert found.get(timeout=WAIT) == [2, 4]
    found.delete()
    assert GroupResult.restore("g", app=site.app) is None


def test_what_is_saved_may_be_saved_again(app: Taskcore) -> None:
    nested = GroupResult("inner", ["b"])
    GroupResult("g", ["a"], app=app).save()
    saved = GroupResult("g", ["a", nested], AsyncResult("p"), app=app).save()
    assert app.GroupResult.restore("g") == saved
    assert app.AsyncResult("g").state == "PENDING", "no task has that id"
    assert pickle.loads(pickle.dumps(saved)) == saved


def test_values_come_from_another_thread(app: Taskcore) -> None:
    ids = [str(n) for n in range(MANY)]
    results = ResultSet(ids, app)

    def store() -> None:
        for one in ids:
            app.backend.put(one, "SUCCESS", int(one))

    storing = threading.Thread(target=store)
    storing.start()
    assert results.get(timeout=WAIT) == list(range(MANY))
    storing.join()


def test_a_failed_task_of_a_chain_ends_the_wait_for_the_last(app: Taskcore) -> None:
    first = AsyncResult("first", app=app)
    last = AsyncResult("last", app=app, parent=AsyncResult("middle", app=app, parent=first))
    error = {"exc_type": "ValueError", "exc_message": ["x"], "exc_module": "builtins"}
    threading.Timer(0.05, lambda: app.backend.put("first", "FAILURE", error)).start()
    with pytest.raises(ValueError, match="x"):
        last.get(timeout=WAIT)

    async def wait() -> Any:
        return await last

    with pytest.raises(ValueError, match="x"):
        asyncio.run(asyncio.wait_for(wait(), WAIT))
    app.backend.put("last", "SUCCESS", 1)
    with pytest.raises(last.TimeoutError, match="`other`"):
        AsyncResult("other", app=app, parent=AsyncResult("nobody", app=app)).get(timeout=0.05)
    assert AsyncResult("last", app=app, parent=AsyncResult("first", app=app)).get(timeout=WAIT) == 1


def test_who_is_told_of_the_end(app: Taskcore) -> None:
    told: list[Any] = []
    done = threading.Event()
    group = GroupResult("g", ["a", "b"], app=app)
    group[0].then(lambda one: told.append(one.result))
    group.then(lambda whole: told.append(whole.get())).then(lambda _: done.set())
    app.backend.put("a", "SUCCESS", 1)
    app.backend.put("b", "SUCCESS", 2)
    assert done.wait(WAIT) and told == [1, [1, 2]]


def test_a_program_that_ends_waits_for_who_is_told(site: Site) -> None:
    code = f"""
import threading, time
from taskcore import Taskcore
app = Taskcore("client", broker={site.broker!r}, backend={site.results!r})
begun = threading.Event()
def told(result):
    begun.set()
    time.sleep(0.3)  # without the interpreter lock, which the end of the program takes meanwhile
    print("told", flush=True)
app.AsyncResult("i").then(told)
app.AsyncResult("later").then(print)
app.backend.put("i", "SUCCESS", 1)
begun.wait({WAIT})
"""
    assert python(code, cwd=site.folder).split() == ["told"]


def test_a_failed_task_before_a_group_ends_the_wait_for_it(app: Taskcore) -> None:
    first = AsyncResult("first", app=app)
    group = GroupResult("g", ["a", "b"], first, app=app)
    error = {"exc_type": "ValueError", "exc_message": ["x"], "exc_module": "builtins"}
    threading.Timer(0.05, lambda: app.backend.put("first", "FAILURE", error)).start()
    with pytest.raises(ValueError, match="x"):
        group.get(timeout=WAIT)

    async def wait() -> Any:
        return await GroupResult("g", ["a", "b"], AsyncResult("first", app=app), app=app)

    with pytest.raises(ValueError, match="x"):
        asyncio.run(asyncio.wait_for(wait(), WAIT))
