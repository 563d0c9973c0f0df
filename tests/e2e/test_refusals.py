"""What bad input gets: one clear error, nothing lost, and the worker goes on."""

import os
import signal
import socket
from pathlib import Path

import pytest

from support.process import Worker
from support.redis_server import RedisServer, free_port
from support.site import APPS, Site
from taskcore.exceptions import (
    ContentDisallowed,
    EncodeError,
    OperationalError,
    SettingIgnored,
    WorkerLostError,
)

WAIT = 30

# Takes the superuser's right to write anywhere away, so that read-only means read-only in tests run
# by root too.
UNPRIVILEGED = (
    "import ctypes, os, sys; libc = ctypes.CDLL(None); "
    "[libc.prctl(24, capability, 0, 0, 0) for capability in (1, 2)]; os.execv(sys.argv[1], sys.argv[1:])"
)


def test_an_unknown_task_is_parked_and_can_be_replayed(site: Site) -> None:
    worker = site.worker("-c", "1")
    site.app.send_task("sample.nobody", args=(1,))
    assert site.wait_queue(dead=1)["depth"] == 0
    worker.wait_for("sample.nobody")
    listed = site.cli("dead", "list", "taskcore")
    assert "sample.nobody" in listed
    assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2
    worker.stop()

    assert "1" in site.cli("dead", "replay", "taskcore")
    assert site.queue()["depth"] == 1 and site.queue()["dead"] == 0


def test_a_refused_content_type_is_parked(site: Site) -> None:
    worker = site.worker("-c", "1")
    refused = site.task("add").apply_async((1, 2), serializer="pickle")
    with pytest.raises(ContentDisallowed, match="application/x-python-serialize"):
        refused.get(timeout=WAIT)
    site.wait_queue(dead=1)
    worker.wait_for("application/x-python-serialize")
    assert "application/x-python-serialize" in site.cli("dead", "list", "taskcore")
    assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2


def test_a_task_that_keeps_killing_its_process_fails_when_it_is_parked(site: Site) -> None:
    worker = site.worker("-c", "1")
    deadly = site.task("die_late").delay("again")
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        deadly.get(timeout=WAIT)
    site.wait_queue(dead=1)
    assert site.written() == ["dying again"] * 3
    worker.wait_for(rf"{deadly.id}.*delivered again \(loss 2 of 3\)")
    worker.wait_for(rf"{deadly.id}.*parked.*`taskcore` \(loss 3 of 3\)")
    assert "sample.die_late" in site.cli("dead", "list", "taskcore")


def test_bytes_that_are_no_message_are_parked_with_their_bytes(
    redis_site: Site, redis_server: RedisServer
) -> None:
    redis_site.worker("-c", "1")
    redis_server.command("SELECT", "1")
    import redis

    with redis.Redis.from_url(redis_site.broker) as client:
        client.lpush("taskcore", b"\xc1 no message")
        client.lpush("taskcore", b'{"body": "e30=", "headers": {}, "properties": {}}')
    redis_site.wait_queue(dead=2)
    assert redis_site.task("add").delay(1, 1).get(timeout=WAIT) == 2


def test_arguments_that_do_not_fit_are_refused_at_the_call(site: Site) -> None:
    with pytest.raises(TypeError):
        site.task("add").delay()
    with pytest.raises(TypeError):
        site.task("add").apply_async((1, 2, 3))
    with pytest.raises(TypeError):
        site.task("add").apply_many([(1, 2), (1, 2, 3)])
    with pytest.raises(TypeError):
        site.task("add").delay(1, z=3)


def test_an_argument_that_cannot_be_encoded_is_refused_at_the_call(site: Site) -> None:
    site.task("echo").delay("the only message")
    with pytest.raises(EncodeError):
        site.task("echo").delay(object())
    nested: list[object] = []
    for _ in range(10_000):
        nested = [nested]
    with pytest.raises((EncodeError, ValueError)):
        site.task("echo").delay(nested)
    assert site.queue()["depth"] == 1


def test_a_body_over_the_limit_is_refused_and_the_limit_is_named(site: Site) -> None:
    site.task("echo").delay("the only message")
    with pytest.raises(ValueError, match=r"\d"):
        site.task("echo").delay("x" * 80_000_000)
    assert site.queue()["depth"] == 1


def test_the_limit_of_a_body_is_a_setting() -> None:
    import sample

    app = sample.make(broker_url="memory://small", task_max_body=100)
    with pytest.raises(ValueError, match="raise that setting"):
        app.tasks["sample.echo"].delay("x" * 200)
    app.conf.update(task_max_body=1000)
    app.tasks["sample.echo"].delay("x" * 200)


def test_a_large_body_under_the_limit_arrives(site: Site) -> None:
    site.worker("-c", "1")
    value = "x" * 4_000_000
    assert site.task("echo").delay(value).get(timeout=WAIT) == value


@pytest.mark.parametrize(
    "options",
    [
        {"countdwn": 1},
        {"priority": 10},
        {"priority": -1},
        {"serializer": "no"},
        {"compression": "no"},
        {"queue": ""},
    ],
    ids=str,
)
def test_an_unknown_or_impossible_option_is_refused(
    sqlite_site: Site, options: dict[str, object]
) -> None:
    with pytest.raises((TypeError, ValueError)):
        sqlite_site.task("add").apply_async((1, 2), **options)


def test_an_unknown_setting_is_warned_of_with_a_proposal(sqlite_site: Site) -> None:
    with pytest.warns(SettingIgnored, match="broker_url"):
        sqlite_site.client(broker_ulr="memory://")


@pytest.mark.parametrize(
    "url", ["nonsense", "redsi://localhost", "redis://localhost:port/0", "sqlite:"]
)
def test_a_malformed_url_is_refused(tmp_path: Path, url: str) -> None:
    import sample

    with pytest.raises((ValueError, OperationalError)):
        sample.make(broker_url=url).tasks["sample.add"].delay(1, 2)


def test_a_broker_that_is_down_is_said_within_the_deadline() -> None:
    import sample

    app = sample.make(broker_url=f"redis://:secret@127.0.0.1:{free_port()}/0")
    with pytest.raises(OperationalError) as caught:
        app.tasks["sample.add"].delay(1, 2)
    assert "secret" not in str(caught.value) and "127.0.0.1" in str(caught.value)


def test_a_broker_that_never_answers_is_said_within_the_deadline() -> None:
    """Something listens and says nothing: the publish ends by its deadline, not by the network's."""
    import sample

    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = sample.make(broker_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        with pytest.raises(OperationalError):
            app.tasks["sample.add"].delay(1, 2)


def test_a_worker_reconnects_when_its_broker_comes_back(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    with Site(tmp_path, own_redis.url(), own_redis.url()) as site:
        worker = site.worker("-c", "1")
        assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2
        gate = site.gate()
        running = site.task("hold_late").delay(str(gate), "through")
        site.wait_written(1)
        own_redis.stop(signal.SIGKILL)
        gate.touch()
        site.wait_written(2)
        own_redis.start()
        # Its result was kept and is sent after; it is not run again.
        assert running.get(timeout=WAIT) == "through"
        assert site.task("add").delay(2, 2).get(timeout=WAIT) == 4
        site.wait_queue(depth=0, in_flight=0)
        assert site.written() == ["begin through", "end through"]
        assert worker.stop() == 0


def test_a_worker_waits_for_a_broker_that_is_not_there_yet(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    with Site(tmp_path, server.url(), server.url()) as site:
        worker = site.worker("-c", "1", ready=False)
        worker.wait_for(f"127.0.0.1:{server.port}.*", count=2)
        server.start()
        try:
            worker.ready()
            assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2
        finally:
            server.stop()


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    import sample

    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 1000)
    url = f"sqlite:///{path}"
    with pytest.raises(OperationalError, match=r"notes\.txt"):
        sample.make(broker_url=url, result_backend=url).tasks["sample.add"].delay(1, 2)
    with Site(tmp_path, url, url) as site:
        worker = site.worker("-c", "1", ready=False)
        assert worker.wait() not in (0, -11)
        assert "notes.txt" in worker.output and "Traceback" not in worker.output
    assert path.read_text().startswith("dear diary, ")


def test_a_database_that_is_removed_or_replaced_is_noticed(sqlite_site: Site) -> None:
    """By the worker, which waits, and by a client that has it open."""
    worker = sqlite_site.worker("-c", "1")
    assert sqlite_site.task("add").delay(1, 1).get(timeout=WAIT) == 2
    for part in sqlite_site.folder.glob("queue.db*"):
        part.unlink()
    assert sqlite_site.task("add").delay(2, 2).get(timeout=WAIT) == 4
    worker.wait_for("was removed or replaced")
    assert worker.stop() == 0
    assert "Traceback" not in worker.output


def test_a_zygote_that_is_killed_ends_the_worker_in_one_sentence(sqlite_site: Site) -> None:
    worker = sqlite_site.worker("-c", "1")
    parents = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    for zygote in map(int, parents):
        os.kill(zygote, signal.SIGKILL)
    assert worker.wait() == 1
    assert worker.lines[-1].startswith("Error: the zygote"), worker.output
    assert "Traceback" not in worker.output


def test_a_worker_that_cannot_do_anything_says_so(sqlite_site: Site) -> None:
    folder = sqlite_site.folder
    (folder / "bare.py").write_text("from taskcore import Taskcore\napp = Taskcore('bare')\n")
    sqlite_site.worker("-c", "1", app="bare").wait_for("no tasks.*include=")
    sqlite_site.broker = "memory://"
    sqlite_site.worker("-P", "solo").wait_for("`memory://` lives in this process")


def test_text_from_outside_does_not_shape_the_log(site: Site) -> None:
    worker = site.worker("-c", "1")
    task_id = "first\nsecond\x1b[2J"
    assert site.task("add").apply_async((1, 1), task_id=task_id).get(timeout=WAIT) == 2
    worker.wait_for(r"first\\nsecond\\u\{1b\}\[2J\] succeeded")
    huge = site.task("fail").delay("x" * 3_000_000)
    with pytest.raises(ValueError) as raised:
        huge.get(timeout=WAIT)
    assert len(raised.value.args[0]) == 3_000_000, "the result has all of it"
    worker.wait_for("bytes left out")
    assert len(worker.output) < 200_000


def test_a_database_that_cannot_be_written_is_refused(sqlite_site: Site) -> None:
    import sys

    sqlite_site.task("add").delay(1, 2)
    folder = sqlite_site.folder / "locked"
    folder.mkdir()
    database = folder / "queue.db"
    database.write_bytes((sqlite_site.folder / "queue.db").read_bytes())
    database.chmod(0o444)
    folder.chmod(0o555)
    try:
        url = f"sqlite:///{database}"
        worker = Worker(
            "sample",
            "-c",
            "1",
            cwd=sqlite_site.folder,
            globals_=["-b", url, "--result-backend", url],
            env=sqlite_site.env,
            python=[sys.executable, "-c", UNPRIVILEGED, sys.executable],
        )
        sqlite_site.processes.append(worker)
        assert worker.wait() not in (0, -11)
        assert str(database) in worker.output and "Traceback" not in worker.output
    finally:
        folder.chmod(0o755)


def test_a_result_that_was_never_wanted_is_refused_to_be_read(tmp_path: Path) -> None:
    import sample

    app = sample.make(broker_url=f"sqlite:///{tmp_path / 'queue.db'}")
    with pytest.raises(Exception, match=r"(?i)result"):
        app.tasks["sample.add"].delay(1, 2).get(timeout=1)


def test_the_apps_are_where_the_tests_expect_them() -> None:
    assert (APPS / "sample.py").is_file()


@pytest.mark.parametrize("watched", [False, True])
def test_a_bulk_publish_tries_as_hard_as_each_call_says(tmp_path: Path, watched: bool) -> None:
    from taskcore import signals

    def listen(**_: object) -> None: ...

    url = f"redis://localhost:{free_port()}/0"
    with Site(tmp_path, url, url) as site:
        add = site.task("add")
        if watched:
            signals.before_task_publish.connect(listen)
        try:
            for attempts, options in [
                ("1 attempt", {"retry": False}),
                ("2 attempts", {"retry_policy": {"max_retries": 1}}),
            ]:
                with pytest.raises(OperationalError, match=f"gave up after {attempts} "):
                    site.app.send_many([add.s(1, 2).set(**options)])
                with pytest.raises(OperationalError, match=f"gave up after {attempts} "):
                    add.apply_many([(1, 2)], **options)
        finally:
            signals.before_task_publish.disconnect(listen)


def test_a_bulk_publish_keeps_the_order_whatever_each_call_says(sqlite_site: Site) -> None:
    log = sqlite_site.task("log")
    calls = [log.s(str(n)).set(timeout=5 + n % 2, retry=bool(n % 3)) for n in range(10)]
    results = sqlite_site.app.send_many(calls)
    sqlite_site.worker("-c", "1")
    assert results.get(timeout=WAIT) == [str(n) for n in range(10)]
    assert sqlite_site.written() == [str(n) for n in range(10)]
