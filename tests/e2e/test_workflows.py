"""Workflows through a real worker."""

import signal
from typing import Any

import pytest

from support.site import Site
from support.wait import until
from taskcore import chain, chord, group, signature

WAIT = 30


def test_a_group(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    add = sqlite_site.task("add")
    result = group(add.s(i, i) for i in range(10)).apply_async()
    assert result.get(timeout=WAIT) == [2 * i for i in range(10)]
    assert result.successful() and len(result) == 10


def test_a_chain(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    add = sqlite_site.task("add")
    result = (add.s(1, 2) | add.s(10) | add.s(100)).apply_async()
    assert result.get(timeout=WAIT) == 113
    assert result.parent.get() == 13 and result.parent.parent.get() == 3


def test_a_step_is_decoded_when_it_is_the_next(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    add = sqlite_site.task("add")
    unknown = {"__type__": "nobody knows this", "__value__": 1}
    result = (add.s(1, 2) | add.s(10) | add.s(100) | add.s(unknown)).apply_async()
    # The step before it cannot be read without it, the others can.
    assert result.parent.parent.get(timeout=WAIT) == 13
    with pytest.raises(Exception, match="nobody knows this"):
        result.get(timeout=WAIT)


def test_the_steps_of_a_chain_in_other_serializers(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    add = sqlite_site.task("add")
    names = [None, "json", "json", "msgpack", "json", None]
    steps = [add.s(0, 1), *(add.s(10**i).set(serializer=name) for i, name in enumerate(names, 1))]
    assert chain(steps).apply_async().get(timeout=WAIT) == 1111111
    sent = add.s(1, 2).set(serializer="json", compression="gzip") | add.s(10) | add.s(100)
    assert sent.apply_async().get(timeout=WAIT) == 113


CHANGED = """
import sample

app = sample.make()


@app.task(name="change", bind=True)
def change(self):
    last, _ = self.request.chain
    last["args"] = ["changed"]


@app.task(name="again", bind=True)
def again(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
"""


def test_what_a_task_changes_in_the_rest_of_its_chain_counts(sqlite_site: Site) -> None:
    (sqlite_site.folder / "changed.py").write_text(CHANGED)
    sqlite_site.worker("-P", "solo", app="changed")
    log = sqlite_site.task("log")
    first = [signature(name, queue="taskcore", immutable=True) for name in ("again", "change")]
    chain(*first, log.si("next"), log.si("last")).apply_async()
    until(lambda: sqlite_site.written() == ["next", "changed"], "the steps")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_group_as_the_next_step_and_as_a_callback(sqlite_site: Site, pool: str) -> None:
    sqlite_site.worker("-P", pool, "-c", "1")
    add, log = sqlite_site.task("add"), sqlite_site.task("log")
    result = chain(add.s(1, 2), group(add.s(10), chain(add.s(20), add.s(30)))).apply_async()
    assert result.get(timeout=WAIT) == [13, 53]
    assert result.parent.get() == 3
    linked = add.s(1, 1)
    linked.link(group(log.si("one"), log.si("two") | log.si("three")))
    assert linked.apply_async().get(timeout=WAIT) == 2
    until(lambda: set(sqlite_site.written()) == {"one", "two", "three"}, "the callbacks")


def test_maps_and_chunks(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    add = sqlite_site.task("add")
    pairs = [(i, i) for i in range(7)]
    assert add.starmap(pairs).delay().get(timeout=WAIT) == [2 * i for i in range(7)]
    assert add.map([1, 2]).delay().get(timeout=WAIT) == [2, 3]
    assert add.chunks(pairs, 3)().get(timeout=WAIT) == [[0, 2, 4], [6, 8, 10], [12]]


def test_a_task_replaces_itself(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    add, become = sqlite_site.task("add"), sqlite_site.task("become")
    first: Any = become.delay(add.s(1, 2))
    assert first.get(timeout=WAIT) == 3
    chained = (become.s(add.s(1, 2) | add.s(10)) | add.s(100)).apply_async()
    assert chained.get(timeout=WAIT) == 113


def test_what_replaces_a_task_has_its_id_and_one_value(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    add, echo, become = (sqlite_site.task(name) for name in ("add", "echo", "become"))
    quiet = add.s(1, 1).set(ignore_result=True)
    instead = [group([add.s(1, 1)]), group([]), add.chunks([(1, 1), (2, 2), (3, 3)], 2), quiet]
    values: list[Any] = [[2], [], [[2, 4], [6]], 2]
    for sig, value in zip(instead, values, strict=True):
        assert become.delay(sig).get(timeout=WAIT) == value
        assert (become.s(sig) | echo.s()).apply_async().get(timeout=WAIT) == value
    members = chord([become.s(sig) for sig in instead], echo.s()).apply_async()
    assert members.get(timeout=WAIT) == values


def test_a_failure_ends_the_rest_of_a_chain(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    add, fail = sqlite_site.task("add"), sqlite_site.task("fail")
    log = sqlite_site.task("log")
    steps = fail.s("x") | group(add.s(1), add.s(2)) | log.si("never")
    result = steps.on_error(log.si("failed")).apply_async()
    with pytest.raises(ValueError, match="x"):
        result.get(timeout=WAIT)
    until(lambda: sqlite_site.written() == ["failed"], "the error callback")


STUCK = """
import time

import sample
from taskcore import Task

app = sample.make()


class Stuck(Task):
    def apply_async(self, *args, **options):
        print("never published", flush=True)
        time.sleep(3600)


@app.task(name="stuck", base=Stuck)
def stuck(values):
    pass
"""


@pytest.mark.parametrize(("pool", "asked"), [("prefork", signal.SIGTERM), ("solo", signal.SIGINT)])
def test_a_body_whose_own_code_never_returns_does_not_keep_a_worker(
    sqlite_site: Site, pool: str, asked: signal.Signals
) -> None:
    (sqlite_site.folder / "stuck.py").write_text(STUCK)
    worker = sqlite_site.worker("-P", pool, "-c", "1", app="stuck")
    chord([sqlite_site.task("add").s(1, 2)], signature("stuck", queue="taskcore")).apply_async()
    worker.wait_for("never published")
    worker.signal(asked)
    worker.wait()
