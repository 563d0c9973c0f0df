"""Coroutines of tasks: one loop for each thread, and nothing that passes from call to call."""

import asyncio
import contextlib
import gc
import logging
import threading
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskcore.exceptions import SoftTimeLimitExceeded
from taskcore.execution import coroutines, interrupt


def test_what_a_signal_handler_raises_in_the_loop_is_raised_in_the_coroutine() -> None:
    seen: list[str] = []

    async def body() -> None:
        # As Ctrl-C while the loop waits: raised in the code of asyncio, between two steps of the
        # coroutine.
        asyncio.get_running_loop().call_soon(_raise, KeyboardInterrupt())
        try:
            await asyncio.sleep(600)
        except KeyboardInterrupt:
            seen.append("except")
            raise
        finally:
            seen.append("finally")

    with pytest.raises(KeyboardInterrupt):
        coroutines.run(body())
    assert seen == ["except", "finally"]


def _raise(exc: BaseException) -> None:
    raise exc


def test_a_limit_that_a_child_swallows_reaches_who_awaits_it() -> None:
    async def stubborn() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(600)
        return "went on"

    async def body() -> str:
        limit = interrupt.interrupt(threading.get_ident(), SoftTimeLimitExceeded)
        assert limit is not None and issubclass(limit, SoftTimeLimitExceeded), "it runs: at once"
        asyncio.get_running_loop().call_soon(_interrupt)
        try:
            return await asyncio.create_task(stubborn())
        except SoftTimeLimitExceeded:
            current = asyncio.current_task()
            assert current is not None and current.cancelling() == 0
            return "noticed"

    assert coroutines.run(body()) == "noticed"
    assert not interrupt.running


def _interrupt() -> None:
    assert interrupt.interrupt(threading.get_ident(), SoftTimeLimitExceeded) is None


def test_a_limit_that_comes_after_the_end_changes_nothing() -> None:
    async def body() -> int:
        asyncio.get_running_loop().call_soon(_interrupt)
        return 1

    assert coroutines.run(body()) == 1
    assert coroutines.run(body()) == 1


def test_a_generator_that_was_left_is_closed_without_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    closed: list[int] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield len(closed)
        finally:
            await asyncio.sleep(0)
            closed.append(1)

    async def body() -> int:
        async for number in numbers():
            return number
        return -1

    assert coroutines.run(body()) == 0
    assert closed == [1] and not caplog.records


def test_a_child_that_does_not_end_takes_its_loop_with_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coroutines, "PATIENCE", 0.05)
    going = True

    async def stubborn() -> None:
        while going:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)

    async def body() -> Any:
        asyncio.create_task(stubborn(), name="stubborn one")  # noqa: RUF006 - that is the mistake
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    async def loop() -> Any:
        return asyncio.get_running_loop()

    given_up = coroutines.run(body())
    going = False
    with caplog.at_level(logging.CRITICAL):
        assert coroutines.run(loop()) is not given_up
        assert given_up.is_closed()
        gc.collect()
    first, second = caplog.messages[:2]
    assert "`stubborn one` (" in first and "still running" in first
    assert "did not end within 0.05 s" in second


def test_a_loop_ends_with_its_thread() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def body() -> None:
        loops.append(asyncio.get_running_loop())

    thread = threading.Thread(target=lambda: coroutines.run(body()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thread.start()
        thread.join()
        gc.collect()
    assert loops[0].is_closed()


def test_a_running_loop_is_named_as_the_reason() -> None:
    async def inner() -> None: ...

    async def outer() -> None:
        with pytest.raises(RuntimeError, match="inner` cannot be run to its end here"):
            coroutines.run(inner())

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a coroutine that was never awaited
        asyncio.run(outer())
