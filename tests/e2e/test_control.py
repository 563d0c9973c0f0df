"""Remote control through the command line and `app.control`, of workers in processes of their own."""

import json
from typing import Any

import pytest

from support.site import Site
from support.wait import until
from taskcore.exceptions import TimeLimitExceeded

WAIT = 30
NOBODY = 69


class Controlled(Site):
    """A site whose workers are asked and told."""

    def client(self, **conf: Any) -> Any:
        import controlled

        return controlled.make(broker_url=self.broker, result_backend=self.results, **conf)

    def start(self, name: str, *options: str) -> Any:
        """A worker of that name."""
        return self.worker("-n", f"{name}@host", *options, app="controlled")

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """Publishes a task of the app."""
        return self.app.tasks[f"controlled.{name}"].apply_async(args, **options)

    def hold(self, name: str, task: str = "hold", **options: Any) -> Any:
        """Publishes a task that waits for a file, and waits until it does."""
        call = self.call(task, str(self.folder / name), **options)
        until(lambda: any(self.folder.glob(f"{name}.*")), f"`{name}` to begin")
        return call

    def cli(self, *words: str, code: int | None = 0, timeout: float = WAIT) -> str:
        """A command, of the app of these tests."""
        from support.process import run

        chosen = ("-A", "controlled", *self.globals_, *words)
        return run(*chosen, cwd=self.folder, env=self.env, code=code, timeout=timeout)

    def asked(self, *words: str) -> Any:
        """The replies that a command of `inspect` shows as JSON."""
        return json.loads(self.cli("inspect", "-j", "-t", str(WAIT), *words))

    def tell(self, command: str, **arguments: Any) -> Any:
        """The answer of the one worker, which comes as soon as it can."""
        [reply] = self.app.control.broadcast(command, arguments, reply=True, limit=1, timeout=WAIT)
        [answer] = reply.values()
        return answer


@pytest.fixture
def controlled(site: Site) -> Any:
    """The same folder and broker, with workers that are asked and told."""
    with Controlled(site.folder, site.broker, site.results) as made:
        yield made


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_busy_worker_is_asked(controlled: Controlled, pool: str) -> None:
    worker = controlled.start("w1", "-P", pool, *(("-c", "1") if pool == "prefork" else ()))
    running = controlled.hold("gate")
    waiting = controlled.call("add", 1, argsrepr="(1,)")
    later = controlled.call("add", 2, countdown=1.9)
    only = ("-d", "w1@host")

    def asked(*words: str) -> Any:
        return controlled.asked(*only, *words)["w1@host"]

    assert asked("ping") == {"ok": "pong"}
    until(lambda: len(asked("active")) == 1, "one to run")
    [active] = asked("active")
    assert (active["id"], active["name"], active["hostname"]) == (
        running.id,
        "controlled.hold",
        "w1@host",
    )
    assert active["args"] == [str(controlled.folder / "gate")] and active["kwargs"] == {}
    assert active["acknowledged"] is True and active["worker_pid"] > 0
    assert waiting.id in [held["id"] for held in asked("reserved")]
    states = {
        task_id: state
        for task_id, (state, _) in asked("query_task", running.id, later.id, "x").items()
    }
    assert states[running.id] == "active" and states.get(later.id) in ("scheduled", "reserved")
    assert asked("registered")[0] == "controlled.add [rate_limit=100/s]"
    assert asked("registered", "max_retries")[0] == "controlled.add [max_retries=3]"
    stats = asked("stats")
    assert stats["pool"]["max-concurrency"] == 1 and stats["broker"]["transport"]
    assert [queue["name"] for queue in asked("active_queues")] == ["taskcore"]
    assert "broker_url" in asked("conf") and "timezone" in asked("conf", "true")
    assert "software -> taskcore" in asked("report")["ok"]
    assert isinstance(asked("clock")["clock"], int)
    assert asked("memsample").endswith("MB") and "rss" in asked("memdump")
    assert "no graph" in asked("objgraph")["error"]
    assert asked("greet", "you") == {"ok": "w1@host greets you 1 times"}
    (controlled.folder / "gate").touch()
    assert waiting.get(timeout=WAIT) == 2
    assert running.get(timeout=WAIT) and worker.stop() == 0


def test_the_command_line_shows_what_it_was_told(controlled: Controlled) -> None:
    controlled.start("w1")
    controlled.start("w2")
    shown = controlled.cli("status")
    assert "->  w1@host: OK" in shown and "->  w2@host: OK" in shown and "2 nodes online." in shown
    shown = controlled.cli("inspect", "-d", "w1@host", "ping")
    assert shown == "->  w1@host: OK\n        pong\n\n1 node online.\n"
    shown = controlled.cli("control", "-d", "w2@host", "pool_grow", "2")
    assert shown == "->  w2@host: OK\n        pool will grow\n"
    shown = controlled.cli("control", "-d", "w1@host", "fail_loudly")
    assert "w1@host: ERROR" in shown and "ValueError('on purpose')" in shown
    assert "greet <who>" in controlled.cli("inspect", "--list")
    assert "fail_loudly" in controlled.cli("control", "-l")
    assert "not recognized" in controlled.cli("inspect", "pool_grow", code=2)
    assert "one argument too many" in controlled.cli("inspect", "ping", "x", code=2)
    assert "is no n of" in controlled.cli("control", "pool_grow", "x", code=2)
    assert controlled.cli("health", "-n", "w1@host", "-w", "30") == "w1@host is ready\n"
    assert "No nodes replied" in controlled.cli("health", "-n", "w3@host", "-t", "0.1", code=NOBODY)
    assert "No nodes" in controlled.cli("status", "-d", "w3@host", "-t", "0.1", code=NOBODY)


def test_who_is_meant_answers(controlled: Controlled) -> None:
    for name in ("w1", "w2", "other"):
        controlled.start(name)
    control = controlled.app.control
    everybody = {"w1@host", "w2@host", "other@host"}

    def nodes(**options: Any) -> set[str]:
        replies = control.ping(**{"timeout": WAIT, **options})
        return {name for reply in replies for name in reply}

    assert nodes(limit=3) == everybody
    assert nodes(destination=["w1@host", "other@host"]) == {"w1@host", "other@host"}
    assert nodes(pattern="w*@host", limit=2) == {"w1@host", "w2@host"}
    assert nodes(pattern="w[12]", matcher="pcre", limit=2) == {"w1@host", "w2@host"}
    assert len(nodes(limit=1)) == 1
    assert nodes(destination=["nobody@host"], timeout=0.1) == set()
    seen: list[Any] = []
    inspect = control.inspect("w1@host", timeout=WAIT, callback=seen.append)
    assert inspect.ping() == {"ok": "pong"} and seen == [{"w1@host": {"ok": "pong"}}]
    assert control.inspect(["w1@host"], timeout=WAIT).ping() == {"w1@host": {"ok": "pong"}}
    with pytest.raises(ValueError, match="matcher `fnmatch`, expected `glob` or `pcre`"):
        control.ping(pattern="x", matcher="fnmatch")


def test_a_worker_is_told(controlled: Controlled) -> None:
    worker = controlled.start("w1", "-c", "1")
    tell = controlled.tell
    assert tell("add_consumer", queue="other") == {"ok": "add consumer other"}
    assert controlled.call("add", 1, queue="other").get(timeout=WAIT) == 2
    for _ in range(2):  # it is not consumed the second time
        assert tell("cancel_consumer", queue="other") == {"ok": "no longer consuming from other"}
    assert tell("pool_grow", n=2) == {"ok": "pool will grow"}
    assert tell("pool_shrink", n=1) == {"ok": "pool will shrink"}
    assert tell("stats")["pool"]["max-concurrency"] == 2
    assert "cannot shrink" in tell("pool_shrink", n=2)["error"]
    assert tell("time_limit", task_name="controlled.hold", hard=0.3, soft=None) == {
        "ok": "time limits set successfully"
    }
    with pytest.raises(TimeLimitExceeded):
        controlled.call("hold", str(controlled.folder / "never")).get(timeout=WAIT)
    assert tell("autoscale", max=2, min=1) == {"error": "ValueError('Autoscale not enabled')"}
    assert tell("pool_restart") == {"error": "ValueError('Pool restarts not enabled')"}
    assert tell("election", id="e", topic="task") is None
    assert tell("hello", from_node="other@host", revoked={"a": [1.0, "a"]})["revoked"] == ["a"]
    assert tell("hello", from_node="w1@host") is None
    assert tell("revoked") == ["a"]
    assert tell("stats")["total"] == {"controlled.add": 1, "controlled.hold": 1}
    controlled.app.control.shutdown(destination=["w1@host"])
    assert worker.wait() == 0


def test_what_is_no_request_is_ignored_and_a_slow_command_holds_nothing_up(
    controlled: Controlled,
) -> None:
    worker = controlled.start("w1")
    say = controlled.app.publisher.broadcast
    for body in (b"\xff", b"{}", b"[]", b'{"method": "ping", "reply_to": 1}'):
        say("celery.pidbox", "fanout", "", body)
    controlled.app.control.broadcast("block", {"path": str(controlled.folder / "slow")})
    until(lambda: any(controlled.folder.glob("slow.*")), "the command to begin")
    assert controlled.tell("ping") == {"ok": "pong"}
    assert controlled.tell("stats")["pid"] == worker.pid
    assert controlled.call("add", 1).get(timeout=WAIT) == 2
    assert worker.output.count("a request of remote control is ignored") == 1
    (controlled.folder / "slow").touch()
    assert controlled.tell("greet", who="you")["ok"]
    assert worker.stop() == 0


def test_a_worker_may_refuse_to_be_asked(controlled: Controlled) -> None:
    controlled.start("w1")
    quiet = {"TASKCORE_TEST_QUIET": "1"}
    controlled.worker("-n", "w2@host", app="controlled", env=quiet)
    assert controlled.app.control.ping(limit=2, timeout=0.5) == [{"w1@host": {"ok": "pong"}}]
