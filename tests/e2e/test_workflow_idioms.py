"""What people write with signatures, one idiom after the other, on a worker."""

import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from support.site import Site
from support.wait import until
from taskcore import chain, chord, group, signature
from taskcore.canvas import StampingVisitor, maybe_signature
from taskcore.exceptions import ChordError

WAIT = 30
NAMES = ("add", "mul", "xsum", "cause", "tell", "mourn", "stamps", "grow", "invite")


@pytest.fixture
def tasks(sqlite_site: Site) -> Any:
    """The tasks, and a worker for them."""
    import chapter

    sqlite_site.worker("-P", "threads", "-c", "2", "-l", "warning", app="chapter")
    app = chapter.make(broker_url=sqlite_site.broker, result_backend=sqlite_site.results)
    found = {name: app.tasks[f"chapter.{name}"] for name in NAMES}
    return SimpleNamespace(app=app, written=sqlite_site.written, **found)


def value(sig: Any, *args: Any, **kwargs: Any) -> Any:
    """What a signature gives that is called with these."""
    return sig.delay(*args, **kwargs).get(timeout=WAIT)


def test_signatures(tasks: Any) -> None:
    add, mul = tasks.add, tasks.mul
    assert signature("chapter.add", args=(2, 2), app=tasks.app).delay().get(timeout=WAIT) == 4
    assert value(add.signature((2, 2), countdown=0)) == 4
    assert value(add.subtask((2,)), 3) == 5
    # Partials: arguments come before its own, named ones and options over its own.
    assert value(add.s(10), 1) == 11 and value(mul.s(y=2), x=8) == 16
    assert value(mul.s(2, y=3), y=4) == 8 and value(mul.s(2).clone((5,))) == 10
    assert mul.s(2).apply_async((4,), countdown=0).get(timeout=WAIT) == 8
    # Immutable ones take none.
    assert value(add.si(2, 2), 7) == 4
    assert value(add.signature((2, 2), immutable=True), 7) == 4
    assert value(add.s(2, 2).set(immutable=True, priority=3), 7) == 4
    assert ~add.s(2, 2) == 4 and add.s(2, 2)() == 4
    assert value(maybe_signature(dict(add.s(2, 2)), tasks.app)) == 4


def test_links_with_options(tasks: Any) -> None:
    add, tell = tasks.add, tasks.tell
    add.apply_async((2, 2), link=tell.s("option"))
    add.apply_async((3, 3), link=[tell.s("one").set(priority=1), tell.si("immutable")])
    sig = add.s(4, 4)
    sig.link(tell.s("link"))
    sig.link(tell.s("twice").set(countdown=0))
    sig.delay()
    tasks.cause.apply_async((), link_error=tell.si("old style"))
    tasks.cause.s().on_error(tasks.mourn.s()).delay()
    expected = {
        *("4 option", "6 one", "immutable", "8 link", "8 twice", "old style"),
        "ValueError of chapter.cause, traceback True",
    }
    until(lambda: set(tasks.written()) >= expected, f"{expected}")


def test_chains(tasks: Any) -> None:
    add, mul = tasks.add, tasks.mul
    result = chain(add.s(2, 2), add.s(4), add.s(8))()
    assert result.get(timeout=WAIT) == 16
    assert (result.parent.get(), result.parent.parent.get()) == (8, 4)
    assert (add.s(4) | mul.s(8))(16).get(timeout=WAIT) == 160
    assert (add.si(2, 2) | add.si(4, 4) | add.si(8, 8))().get(timeout=WAIT) == 16
    assert value(chain(add.s(n) for n in range(1, 4)), 0) == 6
    partial = add.s(1) | mul.s(2)
    assert value(partial | partial, 3) == 18


def test_groups(tasks: Any) -> None:
    add, mul = tasks.add, tasks.mul
    result = group(add.s(n, n) for n in range(10))()
    assert result.join(timeout=WAIT) == [2 * n for n in range(10)]
    assert result.ready() and result.successful() and not (result.failed() or result.waiting())
    assert result.completed_count() == 10 and len(list(result)) == 10
    assert value(group([add.s(1), mul.s(2)]), 10) == [11, 20]
    assert group(add.s(2, 2), add.s(4, 4)).skew(start=0, stop=1, step=0.1)().get(WAIT) == [4, 8]
    assert (add.s(1, 1) | group(add.s(1), mul.s(5))).delay().get(timeout=WAIT) == [3, 10]
    # In a chain a group of one is its member.
    assert value(chain(add.s(2, 2), group(add.s(1)), add.s(1))) == 6


def test_chords(tasks: Any) -> None:
    add, xsum = tasks.add, tasks.xsum
    assert chord(add.s(n, n) for n in range(50))(xsum.s()).get(timeout=WAIT) == 2450
    assert chord((add.s(n, n) for n in range(5)), xsum.s())().get(timeout=WAIT) == 20
    upgraded = add.s(1, 1) | group(add.s(n) for n in range(3)) | xsum.s() | add.s(100)
    assert value(upgraded) == 109
    assert value(chord([add.s(1, 1)], add.si(7, 7))) == 14
    lost = chord([add.s(1, 1), tasks.cause.s()], xsum.s().on_error(tasks.mourn.s()))()
    with pytest.raises(ChordError, match=r"ValueError\('of the header'\)"):
        lost.get(timeout=WAIT)
    until(lambda: "ChordError of chapter.xsum, traceback False" in tasks.written(), "the errback")


def test_chord_error_callbacks_of_header_tasks(tasks: Any) -> None:
    tasks.app.conf.task_allow_error_cb_on_chord_header = True
    sig = chord([tasks.cause.s(), tasks.cause.s()], tasks.xsum.s())
    sig.link_error(tasks.tell.si("failed"))
    sig.delay()
    until(lambda: tasks.written().count("failed") == 3, "two members and the body")


def test_maps_and_chunks(tasks: Any) -> None:
    add, xsum = tasks.add, tasks.xsum
    assert value(xsum.map([list(range(10)), list(range(100))])) == [45, 4950]
    assert value(add.starmap(zip(range(5), range(5), strict=True))) == [0, 2, 4, 6, 8]
    pairs = [(n, n) for n in range(25)]
    split = [[2 * n for n in range(at, min(at + 10, 25))] for at in (0, 10, 20)]
    assert add.chunks(pairs, 10)().get(timeout=WAIT) == split
    chunked = add.chunks(pairs, 10).group()
    assert len(chunked) == 3
    assert chunked.skew(start=0, step=0.1)().get(timeout=WAIT) == split
    assert value(add.chunks(pairs, 10).group() | xsum.map([[1]]).set(immutable=True)) == [1]


def test_tasks_that_change_their_workflow(tasks: Any) -> None:
    add, xsum = tasks.add, tasks.xsum
    assert value(tasks.grow.s(1, 2) | add.s(5)) == 35
    assert value(chord([tasks.grow.s(1, 1), add.s(1, 1)], xsum.s())) == 22
    assert value(chord([tasks.invite.s(5), add.s(1, 1)], xsum.s())) == 17


class Monitoring(StampingVisitor):
    """An id for each task."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"monitoring_id": uuid.uuid4().hex}


class Everywhere(StampingVisitor):
    """Says of which part a stamp is."""

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
        return {"in_group": 1}

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        return {"in_chain": 1}

    def on_chord_body(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"of_body": 1}

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"of_task": ["t"], "stamped_headers": ["of_task"]}

    def on_callback(self, callback: Any, **headers: Any) -> dict[str, Any]:
        return {"of_callback": 1}

    def on_errback(self, errback: Any, **headers: Any) -> dict[str, Any]:
        return {"of_errback": 1}


def test_stamps(tasks: Any) -> None:
    stamps = tasks.stamps

    def stamped(sig: Any, *args: Any, **headers: Any) -> Any:
        sig.stamp(*args, **headers)
        return value(sig)

    assert stamped(stamps.s(), customer="acme") == {"customer": "acme"}
    ids = [one["monitoring_id"] for one in stamped(group(stamps.s(), stamps.s()), Monitoring())]
    assert len(set(ids)) == 2 and all(len(one) == 32 for one in ids)
    sig = stamps.s()
    sig.stamp(color="red")
    sig.stamp(append_stamps=True, color="blue")
    assert value(sig) == {"color": ["blue", "red"]}
    assert stamped(chain(stamps.si(), stamps.si()), Everywhere()) == {
        "in_chain": 1,
        "of_task": ["t"],
    }
    assert stamped(group(stamps.s(), stamps.s()), Everywhere())[0]["in_group"] == 1
    body = stamped(chord([stamps.s(), stamps.s()], stamps.si()), Everywhere())
    assert body["of_body"] == 1 and body["of_task"] == ["t"]
    linked = stamps.s()
    linked.link(stamps.si())
    linked.stamp_links(Everywhere())
    assert value(linked) == {}
    until(lambda: any("of_callback" in line for line in tasks.written()), "the callback")
    failing = tasks.cause.s()
    failing.link_error(stamps.si())
    failing.stamp(Everywhere())
    failing.delay()
    until(lambda: any("of_errback" in line for line in tasks.written()), "the error callback")
