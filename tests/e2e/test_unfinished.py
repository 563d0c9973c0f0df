"""A workflow ends whichever part of it does not run: nobody waits for what cannot come."""

import signal
from typing import Any

import pytest
import redis

from support.site import Site
from support.wait import until
from taskcore import chain, chord, group, signature
from taskcore.exceptions import (
    ChordError,
    EncodeError,
    NotRegistered,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from taskcore.result import AsyncResult

WAIT = 30
FAR = 3600


def of(site: Site, task_id: str) -> AsyncResult[Any]:
    return AsyncResult(task_id, app=site.app)


def mourners(site: Site) -> list[Any]:
    return [site.task("mourn").s(), site.task("bury").s()]


def test_a_scheduled_step_that_is_cancelled_ends_the_rest_of_its_chain(site: Site) -> None:
    site.worker("-c", "1")
    add = site.task("add")
    later = add.s(1, 2).set(countdown=FAR)
    later.link(add.s(5).set(task_id="linked"))
    result = chain(later, add.s(10), group(add.s(1), add.s(2))).apply_async()
    assert site.app.cancel(result.parent.parent.id)
    assert result.parent.parent.state == "REVOKED"
    for one in (result, result.parent, of(site, "linked")):
        with pytest.raises(TaskRevokedError, match="revoked"):
            one.get(timeout=WAIT)
    site.wait_queue(depth=0, in_flight=0, scheduled=0, dead=0)


def test_a_scheduled_member_that_is_cancelled_ends_its_chord(site: Site) -> None:
    site.worker("-c", "1")
    add, log = site.task("add"), site.task("log")
    body = site.task("echo").s().on_error(log.si("told"))
    header = [add.s(1, 1), add.s(2, 2).set(countdown=FAR), add.s(3, 3)]
    result = (chord(header, body) | add.s(1)).apply_async()
    result.parent.parent.results[1].revoke()
    for one in (result, result.parent):
        with pytest.raises(ChordError, match=r"TaskRevokedError\('revoked'\)"):
            one.get(timeout=WAIT)
    assert site.wait_written(1) == ["told"]


def test_a_task_that_nothing_follows_leaves_the_broker_when_it_is_cancelled(site: Site) -> None:
    result = site.task("add").apply_async((1, 2), countdown=FAR)
    result.revoke()
    assert result.state == "REVOKED"
    site.wait_queue(depth=0, scheduled=0)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_follows_a_task_that_nobody_registered_fails(sqlite_site: Site, pool: str) -> None:
    site = sqlite_site
    site.worker("-P", pool, "-c", "1")
    add = site.task("add")
    nobody = signature("sample.nobody", queue="taskcore", app=site.app)
    steps = chain(nobody, add.s(1), group(add.s(2), add.s(3)))
    result = steps.apply_async(link_error=mourners(site))
    first = result.parent.parent
    for one in (result, result.parent, first):
        with pytest.raises(NotRegistered):
            one.get(timeout=WAIT)
    told = {f"mourned {first.id}", f"buried {first.id} NotRegistered"}
    until(lambda: told <= set(site.written()), f"{told} in {site.written()}")
    site.wait_queue(depth=0, in_flight=0, dead=1)


def test_callbacks_of_a_failure_end_with_it(sqlite_site: Site) -> None:
    site = sqlite_site
    site.worker("-c", "1")
    add = site.task("add")
    linked = add.s(1).set(task_id="linked")
    linked.link(add.s(2).set(task_id="linked further"))
    last = add.s(1)
    last.link(add.s(3).set(task_id="linked to the last"))
    failing = site.task("fail").s("x")
    failing.link(linked)
    chain(failing, last).apply_async()
    for task_id in ("linked", "linked further", "linked to the last"):
        with pytest.raises(ValueError, match="x"):
            of(site, task_id).get(timeout=WAIT)


HOSTILE = """
import sample
from taskcore import Signature, Task
from taskcore.exceptions import OperationalError, TimeoutError

app = sample.make()


class Away(Task):
    def apply_async(self, *args, **options):
        raise {error}("of another server")


@app.task(name="away", base=Away)
def away(values):
    pass
"""


@pytest.mark.parametrize("error", ["OperationalError", "TimeoutError", "ConnectionError"])
def test_a_body_whose_own_code_raises_ends_its_chord_and_holds_up_no_other(
    sqlite_site: Site, error: str
) -> None:
    site = sqlite_site
    (site.folder / "hostile.py").write_text(HOSTILE.format(error=error))
    site.worker("-c", "1", app="hostile")
    add, echo = site.task("add"), site.task("echo")
    stuck = chord([add.s(1, 2)], signature("away", queue="taskcore")).apply_async()
    others = [chord([add.s(n, n)], echo.s()).apply_async() for n in range(3)]
    assert [one.get(timeout=WAIT) for one in others] == [[0], [2], [4]]
    with pytest.raises(ChordError, match="of another server"):
        stuck.get(timeout=WAIT)


def test_a_chord_that_is_refused_at_the_call_leaves_nothing(redis_site: Site) -> None:
    site = redis_site
    add, echo = site.task("add"), site.task("echo")
    header = [add.s(1, 1), add.s(2, object())]
    with pytest.raises(EncodeError):
        chord(header, echo.s()).apply_async()
    with pytest.raises(EncodeError):
        group(chord(header, echo.s()), add.s(1, 1)).apply_async()
    with redis.Redis.from_url(site.results) as client:
        assert client.keys("celery-taskset-meta-*") == []
    site.wait_queue(depth=0)


def test_what_follows_ends_although_an_error_callback_kills_the_process_that_calls_it(
    sqlite_site: Site,
) -> None:
    site = sqlite_site
    site.worker("-c", "1")
    add = site.task("add")
    hung = site.task("hold").s(str(site.folder / "never")).set(time_limit=0.5)
    hung.link_error(site.task("bury_and_die").s())
    hung.link_error(site.task("mourn").s())
    result = chain(hung, add.s(1), add.s(2)).apply_async()
    first = result.parent.parent
    for one in (result, result.parent, first):
        with pytest.raises(TimeLimitExceeded):
            one.get(timeout=WAIT)
    told = ["begin held", f"buried {first.id} TimeLimitExceeded", f"mourned {first.id}"]
    assert site.wait_written(3) == told
    site.wait_queue(depth=0, in_flight=0, dead=0)


def test_the_error_callbacks_of_a_chord_in_a_chord_are_called_once_each(site: Site) -> None:
    site.worker("-c", "2")
    add, echo, bury = site.task("add"), site.task("echo"), site.task("bury")
    inner = chord([site.task("fail").s("inner"), add.s(1, 1)], echo.s().on_error(bury.s()))
    result = chord([inner, add.s(2, 2)], echo.s().on_error(bury.s())).apply_async()
    with pytest.raises(ChordError, match="inner"):
        result.get(timeout=WAIT)
    site.wait_written(2)
    site.wait_queue(depth=0, in_flight=0, dead=0)
    told = site.written()
    assert len(told) == 2 and len(set(told)) == 2, told
    assert f"buried {result.id} ChordError" in told


def test_what_follows_a_task_that_a_cold_stop_ends_is_told_by_the_next_worker(site: Site) -> None:
    worker = site.worker("-c", "1")
    add, gate = site.task("add"), site.gate()
    held = site.task("hold").s(str(gate), "cold")
    steps = chain(held, add.s(1), chord([add.s(1), add.s(2)], site.task("echo").s()))
    steps.link_error(mourners(site)[0])
    steps.link_error(mourners(site)[1])
    result = steps.apply_async()
    site.wait_written(1)
    for how in ("(?i)warm shutdown", "(?i)cold shutdown"):
        worker.signal(signal.SIGTERM)
        worker.wait_for(how)
    worker.wait()
    first = result.parent.parent.parent
    with pytest.raises(WorkerLostError):
        first.get(timeout=WAIT)
    site.wait_queue(depth=1, in_flight=0)
    gate.touch()
    site.worker("-c", "1")
    for one in (result, result.parent, result.parent.parent):
        with pytest.raises((WorkerLostError, ChordError)):
            one.get(timeout=WAIT)
    told = {"begin cold", f"mourned {first.id}", f"buried {first.id} WorkerLostError"}
    until(lambda: told <= set(site.written()), f"{told} in {site.written()}")
    site.wait_queue(depth=0, in_flight=0, dead=0)
    assert "end cold" not in site.written()
    assert first.state == "FAILURE"
