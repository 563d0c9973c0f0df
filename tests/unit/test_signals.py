"""Signals."""

import gc
import sys
import threading
from typing import Any

import pytest

from taskcore.signals import Signal


def test_receivers_are_called_with_what_is_sent() -> None:
    signal = Signal("s")
    seen: list[Any] = []

    @signal.connect
    def first(sender: Any, signal: Any, **named: Any) -> str:
        seen.append((sender, named))
        return "answer"

    @signal.connect(sender="only")
    def second(sender: Any, **named: Any) -> None:
        seen.append("second")

    assert signal.send("any", x=1) == [(first, "answer")]
    assert seen == [("any", {"x": 1})]
    assert len(signal.send("only")) == 2 and signal.has_listeners("any")


def test_a_sender_may_be_a_task_or_its_name() -> None:
    class Thing:
        name = "t"

    signal, thing, seen = Signal("s"), Thing(), []

    def receive(**_: Any) -> None:
        seen.append(1)

    signal.connect(receive, sender="t")
    signal.send(thing)
    signal.send("other")
    assert seen == [1]


def test_connecting_twice_has_no_effect_and_disconnecting_ends_it() -> None:
    signal = Signal("s")

    def receive(**_: Any) -> None: ...

    signal.connect(receive)
    signal.connect(receive)
    assert len(signal.send(None)) == 1
    assert signal.disconnect(receive) and not signal.disconnect(receive)
    signal.connect(lambda **_: None, weak=False, dispatch_uid="u")
    signal.connect(lambda **_: None, weak=False, dispatch_uid="u")
    assert len(signal.receivers) == 1 and signal.disconnect(dispatch_uid="u")


def test_receivers_are_not_kept_alive_unless_asked() -> None:
    signal = Signal("s")

    class Thing:
        def receive(self, **_: Any) -> str:
            return "m"

    thing = Thing()
    signal.connect(thing.receive)
    assert [answer for _, answer in signal.send(None)] == ["m"]
    assert signal.disconnect(thing.receive)
    signal.connect(thing.receive)
    del thing
    gc.collect()
    assert signal.send(None) == [] and signal.receivers == []


def test_a_receiver_is_not_taken_for_a_dead_one_of_the_same_address() -> None:
    signal, seen = Signal("s"), []

    class Receiver:
        def __call__(self, **_: Any) -> None:
            seen.append(self)

    dead = Receiver()
    signal.connect(dead)
    address = id(dead)
    del dead
    # Where the allocator does not give the address again, as with Python 3.14, a search has no end.
    tried = [Receiver() for _ in range(10_000)]
    reused = next((receiver for receiver in tried if id(receiver) == address), None)
    if reused is None:
        pytest.skip("no new object got the address of the dead one")
    signal.connect(reused)
    signal.send(None)
    assert seen == [reused]
    assert signal.disconnect(reused) and not signal.receivers


def test_a_sender_that_is_named_twice_is_one_sender() -> None:
    signal, names = Signal("s"), ["".join(["proj", ".add"]) for _ in range(2)]

    def receive(**_: Any) -> None: ...

    for name in names:
        signal.connect(receive, sender=name)
    assert len(signal.receivers) == 1
    assert signal.disconnect(receive, sender="proj." + "add")


def test_receivers_that_connect_at_once_are_all_kept() -> None:
    signal, start, receivers = Signal("s"), threading.Barrier(8), []

    def connect() -> None:
        mine = [lambda **_: None for _ in range(50)]
        receivers.extend(mine)
        start.wait()
        for receiver in mine:
            signal.connect(receiver)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=connect) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(signal.receivers) == len(receivers) == 400


def test_a_receiver_that_raises_is_logged_and_others_run(caplog: pytest.LogCaptureFixture) -> None:
    signal = Signal("s")
    error = ValueError("x")

    def bad(**_: Any) -> None:
        raise error

    def good(**_: Any) -> int:
        return 1

    signal.connect(bad)
    signal.connect(good)
    assert [answer for _, answer in signal.send(None)] == [error, 1]
    assert "signal `s`" in caplog.text
    with pytest.raises(TypeError, match="callable"):
        signal.connect(3)  # type: ignore[call-overload]


def test_sender_and_the_rest_may_be_positional_as_in_celery() -> None:
    signal, seen = Signal(name="s", providing_args={"x"}), []

    def receive(**_: Any) -> None:
        seen.append(1)

    signal.connect(receive, "me", False, "uid")
    signal.send("me")
    signal.send("another")
    assert seen == [1] and signal.disconnect(None, "me", None, "uid")


def test_a_receiver_is_called_until_it_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    signal, waited, seen = Signal("s"), [], []
    monkeypatch.setattr(time, "sleep", waited.append)

    def receive(**_: Any) -> str:
        seen.append(1)
        if len(seen) < 20:
            raise ConnectionError
        return "done"

    signal.connect(receive, retry=True)
    signal.connect(receive, retry=True)
    assert signal.send(None)[0][1] == "done"
    assert waited[:3] == [2.0, 4.0, 6.0] and waited[-1] == 30.0 and len(waited) == 19
    assert signal.disconnect(receive) and not signal.receivers
