"""Calls from coroutines: awaited, together, and without a thread for each."""

import asyncio
import threading
from typing import Any

import pytest

from support.redis_server import free_port
from support.site import Site
from taskcore import chain, chord, group, signals
from taskcore.exceptions import EncodeError, OperationalError
from taskcore.exceptions import TimeoutError as NotReady

WAIT = 30


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("taskcore")]


def test_calls_are_awaited_and_travel_together(site: Site) -> None:
    site.worker()
    add = site.task("add")

    async def main() -> None:
        assert await (await add.adelay(2, 3)).aget(timeout=WAIT) == 5
        before = names()
        results = await asyncio.gather(*(add.adelay(n, n) for n in range(300)))
        assert names() == before
        assert await asyncio.gather(*results) == [2 * n for n in range(300)]
        named = await add.aapply_async((1,), {"y": 2}, task_id="mine", countdown=0.01)
        assert named.id == "mine"
        assert await named.aget(timeout=WAIT) == 3
        sent = await site.app.asend_task("sample.add", (4, 5))
        assert await sent.aget(timeout=WAIT) == 9
        many = await site.app.asend_many(add.s(n, 1) for n in range(3))
        assert [await one for one in many] == [1, 2, 3]

    asyncio.run(main())


def test_workflows_are_awaited(site: Site) -> None:
    site.worker()
    add, total = site.task("add"), site.task("echo")

    async def main() -> None:
        assert await (await chain(add.s(1, 2), add.s(3)).aapply_async()) == 6
        results = await group(add.s(n, n) for n in range(5)).adelay()
        assert sorted([await one async for one in results]) == [0, 2, 4, 6, 8]
        assert await (await chord([add.s(1, 1), add.s(2, 2)], total.s()).adelay()) == [2, 4]
        assert await (await add.s(1).adelay(2)) == 3

    asyncio.run(main())


def test_each_call_has_an_answer_of_its_own(sqlite_site: Site) -> None:
    add = sqlite_site.task("add")

    async def main() -> None:
        calls = [add.adelay(1, 1), add.adelay(1, object()), add.adelay(2, 2)]
        first, second, third = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(second, EncodeError)
        assert len({first.id, third.id}) == 2
        with pytest.raises(TypeError):
            await add.adelay()
        with pytest.raises(TypeError, match="countdwn"):
            await add.aapply_async((1, 2), countdwn=3)

    asyncio.run(main())
    sqlite_site.wait_queue(depth=2)


def test_signals_and_contexts_are_as_of_a_blocking_call(sqlite_site: Site) -> None:
    add, told = sqlite_site.task("add"), []

    def before(sender: Any = None, headers: Any = None, **_: Any) -> None:
        told.append((sender, headers["id"]))

    async def main() -> str:
        return str((await add.adelay(1, 1)).id)

    signals.before_task_publish.connect(before)
    try:
        task_id = asyncio.run(main())
    finally:
        signals.before_task_publish.disconnect(before)
    assert told == [("sample.add", task_id)]


def test_a_server_that_is_away_is_one_error_in_time(sqlite_site: Site) -> None:
    away = sqlite_site.client(task_publish_timeout=0.5)
    away.conf.update(broker_url=f"redis://127.0.0.1:{free_port()}/0")
    add = away.tasks["sample.add"]

    async def main() -> None:
        begun = asyncio.get_running_loop().time()
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        with pytest.raises(OperationalError):
            await add.adelay(1, 1)
        assert ticks > 5, f"the loop stood still for {asyncio.get_running_loop().time() - begun} s"
        ticking.cancel()

    asyncio.run(main())


def test_cancelled_and_timed_out_at_once(sqlite_site: Site) -> None:
    add = sqlite_site.task("add")

    async def main() -> None:
        result = await add.adelay(1, 1)
        with pytest.raises(NotReady, match=result.id):
            await result.aget(timeout=0.05)
        waiting = asyncio.create_task(result.aget())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    # A loop that is closed with calls under way disturbs nobody.
    loop = asyncio.new_event_loop()
    under_way = loop.create_task(add.adelay(1, 1))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert not under_way.done()
    loop.close()
    asyncio.run(main())
