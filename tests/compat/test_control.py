"""Remote control between a stock Celery and taskcore, on one Redis: each asks the other's workers
with its own command line, and both answer in one shape."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.wait import until

WAIT = 30
VECTORS = Path(__file__).resolve().parent.parent / "wire" / "control_replies.jsonl"


def celery(mixed: Any, *words: str, code: int = 0) -> str:
    """A command of stock Celery's."""
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "stock", *words],
        cwd=mixed.folder,
        env={**os.environ, **mixed.env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def begun(mixed: Any, text: str) -> bool:
    return f"begin {text}" in mixed.written()


def shape(value: Any) -> Any:
    """Names and types, and of a list the first item's."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return (
        "number"
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else type(value).__name__
    )


def captured() -> dict[str, list[Any]]:
    """What a stock worker answered, by method."""
    found: dict[str, list[Any]] = {}
    for line in VECTORS.read_text().splitlines():
        said = json.loads(line)
        for reply in said.get("reply", []):
            found.setdefault(said["method"], []).append(reply["w1@host1"])
    return found


def test_stock_celery_asks_a_taskcore_worker(mixed: Any, stock: ModuleType) -> None:
    worker = mixed.taskcore_worker("-n", "t@host", "-c", "1")
    assert "->  t@host: OK" in celery(mixed, "status")
    gate = mixed.gate()
    mixed.task("hold").delay(str(gate), "one")
    until(lambda: begun(mixed, "one"), "a task to run")
    ours = mixed.task("add").delay(1, 2)

    inspect = stock.app.control.inspect(["t@host"], timeout=WAIT)

    def asked(command: str, **arguments: Any) -> Any:
        return inspect._request(command, **arguments)["t@host"]

    assert json.loads(celery(mixed, "inspect", "-j", "ping")) == {"t@host": {"ok": "pong"}}
    until(lambda: len(asked("active")) == 1, "the report of it")
    known = captured()
    for method in ("active", "reserved"):
        wanted = next(reply for reply in known[method] if reply)
        got = shape(asked(method)[0])
        assert {**got, "worker_pid": None, "time_start": None, "args": [], "kwargs": {}} == {
            **shape(wanted[0]),
            "worker_pid": None,
            "time_start": None,
            "args": [],
            "kwargs": {},
        }
    stats = asked("stats")
    wanted = known["stats"][-1]
    assert stats.keys() == wanted.keys()
    for part in ("broker", "rusage"):
        assert stats[part].keys() == wanted[part].keys()
    assert shape(stats["clock"]) == "str"
    assert stats["pool"].keys() - {"max-memory-per-child"} == wanted["pool"].keys()
    assert asked("active_queues")[0] == known["active_queues"][0][0]
    assert asked("query_task", ids=[ours.id])[ours.id][0] == "reserved"
    assert any(line.startswith("sample.add") for line in asked("registered"))
    for method in ("scheduled", "revoked", "conf", "clock", "memsample", "memdump", "report"):
        asked(method)
    assert "no graph" in asked("objgraph")["error"]
    told: dict[str, Any] = {"reply": True, "limit": 1, "timeout": WAIT}
    control = stock.app.control
    for call, answer in (
        (control.rate_limit("sample.add", "10/s", **told), "new rate limit set successfully"),
        (control.time_limit("sample.add", 5, 10, **told), "time limits set successfully"),
        (control.add_consumer("more", **told), "add consumer more"),
        (control.cancel_consumer("more", **told), "no longer consuming from more"),
        (control.pool_grow(1, **told), "pool will grow"),
        (control.pool_shrink(1, **told), "pool will shrink"),
        (control.revoke("x-1", **told), "tasks {'x-1'} flagged as revoked"),
        (control.terminate("x-1", **told), "terminate: tasks unknown"),
    ):
        assert call == [{"t@host": {"ok": answer}}]
    assert "unknown task" in celery(mixed, "control", "rate_limit", "nope", "1/s")
    gate.touch()
    assert ours.get(timeout=WAIT) == 3
    celery(mixed, "control", "shutdown", code=69)  # nobody answers that
    assert worker.wait() == 0


def test_taskcore_asks_a_stock_worker(mixed: Any) -> None:
    mixed.celery_worker("-n", "c@host", "-c", "1")
    assert "->  c@host: OK" in mixed.cli("status")
    asking = json.loads(mixed.cli("inspect", "-j", "-d", "c@host", "-t", "30", "ping"))
    assert asking == {"c@host": {"ok": "pong"}}
    inspect = mixed.client().control.inspect(["c@host"], timeout=WAIT)

    def asked(command: str) -> Any:
        return inspect.ask(command)["c@host"]

    assert any(line.startswith("sample.add") for line in asked("registered"))
    for method in (
        "active", "reserved", "scheduled", "revoked", "stats", "active_queues", "conf",
        "report", "clock", "memsample", "memdump",
    ):  # fmt: skip
        asked(method)
    for words, answer in (
        (("rate_limit", "sample.add", "10/s"), "new rate limit set successfully"),
        (("pool_grow", "1"), "pool will grow"),
        (("add_consumer", "more"), "add consumer more"),
        (("revoke", "x-1"), "tasks {'x-1'} flagged as revoked"),
    ):
        assert answer in mixed.cli("control", "-t", "30", "-d", "c@host", *words)


def test_both_answer_in_one_fleet(mixed: Any, stock: ModuleType) -> None:
    mixed.celery_worker("-n", "c@host", "-c", "1")
    mixed.taskcore_worker("-n", "t@host", "-c", "1")
    for app in (mixed.client(), stock.app):
        replies = app.control.inspect(timeout=10, limit=2).ping()
        assert replies == {"c@host": {"ok": "pong"}, "t@host": {"ok": "pong"}}
        assert app.control.inspect(["t@host"], timeout=10).ping() == {"t@host": {"ok": "pong"}}
    assert mixed.client().control.ping(pattern="c@*", limit=1, timeout=10) == [
        {"c@host": {"ok": "pong"}}
    ]


def test_a_stock_worker_starts_beside_a_taskcore_worker_and_learns_what_was_revoked(
    mixed: Any, stock: ModuleType
) -> None:
    mixed.taskcore_worker("-n", "t@host", "-c", "1")
    stock.app.control.revoke("gone", reply=True, limit=1, timeout=10)
    mingling = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "stock",
        "worker",
        "-l",
        "INFO",
        "-c",
        "1",
        "-n",
        "c@host",
    ]
    from support.process import Process

    other = Process(mingling, cwd=mixed.folder, env=mixed.env | {"TMPDIR": str(mixed.folder)})
    mixed.processes.append(other)
    other.wait_for("sync with 1 nodes")
    other.wait_for(r"\bready\.")
    # It says that it is ready a moment before it listens.
    inspect = stock.app.control.inspect(["c@host"], timeout=1)
    assert until(inspect.revoked, "it to answer") == {"c@host": ["gone"]}


@pytest.mark.parametrize("by", ["taskcore", "celery"])
def test_a_running_task_is_terminated_by_either(mixed: Any, stock: ModuleType, by: str) -> None:
    mixed.taskcore_worker("-n", "t@host", "-c", "1")
    call = mixed.task("hold").delay(str(mixed.gate()), "one")
    until(lambda: begun(mixed, "one"), "a task to run")
    app = mixed.client() if by == "taskcore" else stock.app
    app.control.revoke(call.id, terminate=True)
    with pytest.raises(Exception, match="terminated"):
        call.get(timeout=WAIT)
    assert call.state == "REVOKED"
