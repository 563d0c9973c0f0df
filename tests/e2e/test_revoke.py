"""Tasks that are revoked: wherever they are, and whoever was there to hear it."""

import sys
from typing import Any

import pytest
from tests.e2e.test_control import WAIT, Controlled, controlled

from support.wait import until
from taskcore import canvas
from taskcore.exceptions import TaskRevokedError

__all__ = ["controlled"]


def test_a_worker_that_was_not_there_drops_what_was_revoked(controlled: Controlled) -> None:
    queued = controlled.call("add", 1)
    scheduled = controlled.call("add", 2, countdown=600)
    other = controlled.call("add", 3)
    queued.revoke()
    scheduled.revoke()
    assert scheduled.state == "REVOKED", "at once"
    first = controlled.start("w1")
    for call in (queued, scheduled):
        with pytest.raises(TaskRevokedError):
            call.get(timeout=WAIT)
    assert other.get(timeout=WAIT) == 4
    assert first.stop() == 0
    again = controlled.app.tasks["controlled.add"].apply_async((1,), task_id=queued.id)
    controlled.start("w2")
    until(lambda: controlled.queue()["depth"] == 0, "the queue to be empty")
    assert controlled.tell("revoked") == [queued.id, scheduled.id]
    assert again.state == "REVOKED"


def test_what_another_client_revokes_is_kept_by_the_worker_that_hears_it(
    controlled: Controlled,
) -> None:
    worker = controlled.start("w1")
    # As a stock client says it, which keeps nothing itself.
    assert controlled.tell("revoke", task_id="foreign") == {
        "ok": "tasks {'foreign'} flagged as revoked"
    }
    assert worker.stop() == 0
    assert controlled.app.publisher.revoked() == ["foreign"]
    controlled.start("w2")
    assert controlled.tell("revoked") == ["foreign"]
    controlled.app.control.revoke("for one", destination=["w2@host"], reply=True, timeout=WAIT)
    assert controlled.app.publisher.revoked() == ["foreign"]


@pytest.mark.parametrize("task", ["hold", "late"])
def test_a_task_that_runs_is_ended_once_and_never_again(controlled: Controlled, task: str) -> None:
    controlled.start("w1", "-c", "1")
    call = controlled.hold("gate", task)
    call.revoke(terminate=True, signal="SIGKILL", wait=True, timeout=WAIT)
    with pytest.raises(TaskRevokedError, match="terminated"):
        call.get(timeout=WAIT)
    assert controlled.call("add", 1).get(timeout=WAIT) == 2
    controlled.wait_queue(depth=0, in_flight=0)
    [begun] = controlled.folder.glob("gate.*")
    assert begun.read_text() == "x"


def test_a_task_that_runs_goes_on_unless_it_is_ended(controlled: Controlled) -> None:
    controlled.start("w1", "-c", "1")
    call, waiting = controlled.hold("gate"), controlled.call("add", 1)
    until(lambda: len(controlled.tell("reserved")) == 1, "one to wait")
    controlled.app.control.revoke([call.id, waiting.id])
    with pytest.raises(TaskRevokedError):
        waiting.get(timeout=WAIT)
    (controlled.folder / "gate").touch()
    assert call.get(timeout=WAIT) > 0


def test_tasks_are_revoked_by_their_stamps(controlled: Controlled) -> None:
    class Visitor(canvas.StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"customer": ["a", "b"]}

    def stamped(*args: Any, task: str = "add") -> Any:
        sig = controlled.app.tasks[f"controlled.{task}"].s(*args)
        sig.stamp(Visitor())
        return sig.apply_async()

    worker = controlled.start("w1", "-c", "1")
    running = stamped(str(controlled.folder / "gate"), task="hold")
    until(lambda: any(controlled.folder.glob("gate.*")), "it to begin")
    waiting, other = stamped(1), controlled.call("add", 2)
    until(lambda: len(controlled.tell("reserved")) == 2, "two to wait")
    said = controlled.tell(
        "revoke_by_stamped_headers", headers={"customer": ["b", "c"]}, terminate=True
    )
    assert said == {"ok": "headers {'customer': ['b']} revoked"}
    for call in (running, waiting):
        with pytest.raises(TaskRevokedError):
            call.get(timeout=WAIT)
    assert other.get(timeout=WAIT) == 3
    assert controlled.tell("revoke_by_stamped_headers", headers={"x": "y"}) == {
        "ok": "headers {'x': 'y'} flagged as revoked, but not terminated"
    }
    assert worker.stop() == 0
    later = stamped(1)
    controlled.start("w2")
    with pytest.raises(TaskRevokedError):
        later.get(timeout=WAIT)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_thousand_ids_cost_little_memory(controlled: Controlled) -> None:
    worker = controlled.start("w1", "-c", "1")
    assert controlled.call("add", 1).get(timeout=WAIT) == 2

    def resident() -> float:
        with open(f"/proc/{worker.pid}/smaps_rollup") as lines:
            sizes = [line for line in lines if line.startswith(("Private_Dirty", "Private_Clean"))]
        return sum(int(line.split()[1]) for line in sizes) / 1024

    before = resident()
    ids = [f"{n:08d}-0000-4000-8000-000000000000" for n in range(100_000)]
    [reply] = controlled.app.control.revoke(ids, reply=True, limit=1, timeout=WAIT)
    assert reply["w1@host"]["ok"].endswith("} and 99000 more flagged as revoked")
    cost = resident() - before
    assert len(controlled.app.publisher.revoked(30.0)) == 100_000
    assert cost < 40, "what is left over of reading them among it"
    print(f"{cost:.1f} MiB")
