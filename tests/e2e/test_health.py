"""`worker --http`: probes and metrics of a worker, and `taskcore health`."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.http import OPEN_METRICS, Scrape, get, listens, port_of, ready, scrape
from support.process import Worker
from support.redis_server import RedisServer
from support.site import Site
from support.wait import until

DOCS = Path(__file__).resolve().parents[2] / "docs"
WAIT = 30
NOBODY = 69


def until_scrape(port: int, what: str, **labels: Any) -> Scrape:
    """Scrapes until a sample has the value."""
    value = labels.pop("is_")
    last: list[Scrape] = []

    def matches() -> bool:
        last[:] = [scrape(port)]
        return last[0].value(what, **labels) == value

    until(matches, f"{what} {labels} to be {value}")
    return last[0]


def until_ready(port: int) -> None:
    """Waits until the worker is ready: its children start after it says that it consumes."""
    until(lambda: ready(port) == [], "the worker to be ready")


def test_a_worker_says_how_it_is_and_what_it_did(site: Site) -> None:
    worker = site.worker("-n", "w1@host", "-E", "--http", "127.0.0.1:0")
    port = port_of(worker)
    assert get(port, "/live") == (
        200,
        "application/json",
        '{"live":true,"worker":"w1@host","reasons":[]}\n',
    )
    until_ready(port)
    assert [site.task("add").delay(n).get(timeout=WAIT) for n in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match="on purpose"):
        site.task("fail").delay("on purpose").get(timeout=WAIT)
    site.task("try_until").delay(1).get(timeout=WAIT)
    site.task("add").apply_async((1,), expires=-1)
    site.app.send_task("sample.unknown")
    running = site.task("hold").delay(str(site.gate()))
    waiting = [site.task("hold").delay(str(site.gate())) for _ in range(3)]
    site.wait_written(4)  # two tries, two that hold
    site.task("add").apply_async((1,), countdown=3600)

    seen = until_scrape(port, "taskcore_queue_messages", state="scheduled", is_=1)
    until(lambda: scrape(port).value("taskcore_tasks_active") == 2, "both children to be busy")
    for task, state, count in [
        ("sample.add", "succeeded", 3),
        ("sample.add", "expired", 1),
        ("sample.fail", "failed", 1),
        ("sample.try_until", "retried", 1),
        ("sample.try_until", "succeeded", 1),
        ("other", "parked", 1),
    ]:
        assert seen.value("taskcore_tasks_total", task=task, state=state) == count, (task, state)
    assert seen.value("taskcore_tasks_received_total", task="sample.add") == 4
    assert seen.value("taskcore_task_runtime_seconds_count", task="sample.add") == 3
    assert seen.value("taskcore_task_waiting_seconds_count", task="sample.add") == 3
    assert seen.value("taskcore_task_waiting_seconds_bucket", task="sample.add", le="+Inf") == 3
    assert seen.value("taskcore_queue_messages", queue="taskcore", state="dead") == 1
    assert seen.value("taskcore_queue_messages", queue="taskcore", state="unacked") >= 0
    for name in ("ready", "live"):
        assert seen.value(f"taskcore_worker_{name}") == 1
    for name in ("broker_up", "result_store_up", "queues_up"):
        assert seen.value(f"taskcore_{name}") == 1
    assert seen.value("taskcore_pool_slots") == seen.value("taskcore_pool_children") == 2
    assert seen.value("taskcore_pool_child_starts_total") == 2
    assert seen.value("taskcore_results_stored_total") >= 6
    assert seen.value("taskcore_messages_settled_total", how="acked") >= 6
    assert seen.value("taskcore_events_sent_total") > 0
    assert 0 <= seen.value("taskcore_lease_age_seconds") < 15
    assert seen.value("process_resident_memory_bytes") > 1_000_000
    assert seen.value("taskcore_pool_resident_memory_bytes") > 1_000_000
    assert seen.value("taskcore_worker_info", worker="w1@host", pool="prefork") == 1
    assert scrape(port, OPEN_METRICS).value("taskcore_tasks_total", task="sample.fail") == 1

    site.gate().touch()
    assert [one.get(timeout=WAIT) for one in (running, *waiting)] == ["held"] * 4
    assert until_scrape(port, "taskcore_tasks_active", is_=0)
    assert worker.stop() == 0
    assert not listens(port)


def test_nothing_is_served_unless_it_is_asked_for(sqlite_site: Site) -> None:
    worker = sqlite_site.worker("-c", "1")
    assert sqlite_site.task("add").delay(1).get(timeout=WAIT) == 2
    tcp = Path(f"/proc/{worker.pid}/net/tcp")
    inodes = {
        line.split()[9] for line in tcp.read_text().splitlines()[1:] if line.split()[3] == "0A"
    }
    links = []
    for fd in Path(f"/proc/{worker.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(fd))
    assert not [link for link in links if link.removeprefix("socket:[")[:-1] in inodes]
    assert "health and metrics" not in worker.output


def test_a_broker_that_is_away_and_comes_back(own_redis: RedisServer, tmp_path: Path) -> None:
    with Site(tmp_path, own_redis.url(), own_redis.url()) as site:
        port = port_of(site.worker("-c", "1", "--http", "0"))
        until_ready(port)
        own_redis.stop(signal.SIGKILL)
        until(lambda: "broker" in ready(port), "the worker to say that the broker is away")
        until(lambda: "store" in ready(port), "the worker to say that the store is away")
        assert get(port, "/live")[0] == 200
        seen = scrape(port)
        for name in ("broker_up", "queues_up", "result_store_up", "worker_ready"):
            assert seen.value(f"taskcore_{name}") == 0, name
        assert seen.value("taskcore_queue_messages") == -1
        assert seen.value("taskcore_worker_live") == 1
        text = site.cli("health", "--http", f"127.0.0.1:{port}", code=1)
        assert "is not ready" in text and "broker: the broker is away" in text
        site.cli("health", "--http", f"127.0.0.1:{port}", "--live")
        own_redis.start()
        until_ready(port)
        seen = until_scrape(port, "taskcore_queues_up", is_=1)
        assert seen.value("taskcore_broker_reconnects_total") == 1
        assert "is ready" in site.cli("health", "--http", f"127.0.0.1:{port}")


def test_a_result_store_of_its_own_that_is_away(own_redis: RedisServer, tmp_path: Path) -> None:
    with Site(tmp_path, f"sqlite:///{tmp_path}/queue.db", own_redis.url()) as site:
        port = port_of(site.worker("-c", "1", "--http", "0"))
        until_ready(port)
        own_redis.stop(signal.SIGKILL)
        # It idles, so nothing but the probe asks the store.
        until(lambda: ready(port) == ["store"], "the worker to say that the store is away")
        own_redis.start()
        until_ready(port)


def test_children_that_end_are_counted(sqlite_site: Site) -> None:
    site = sqlite_site
    worker = site.worker("-c", "1", "--max-tasks-per-child", "2", "--http", "0")
    port = port_of(worker)
    for _ in range(4):
        site.task("pid").delay().get(timeout=WAIT)
    until_scrape(port, "taskcore_pool_child_exits_total", why="retired", is_=2)
    os.kill(site.task("pid").delay().get(timeout=WAIT), signal.SIGKILL)
    until_scrape(port, "taskcore_pool_child_exits_total", why="died", is_=1)
    assert site.task("add").delay(1).get(timeout=WAIT) == 2
    until_ready(port)
    site.task("die").delay("x")
    seen = until_scrape(port, "taskcore_tasks_total", task="sample.die", state="lost", is_=1)
    assert seen.value("taskcore_pool_child_starts_total") >= 4
    site.task("spin").apply_async((60,), time_limit=0.2)
    seen = until_scrape(port, "taskcore_pool_child_exits_total", why="time_limit", is_=1)
    assert seen.value("taskcore_tasks_total", task="sample.spin", state="failed") == 1
    held = site.task("hold").delay(str(site.gate()))
    until(lambda: any("begin" in line for line in site.written()), "the task to run")
    held.revoke(terminate=True)
    seen = until_scrape(port, "taskcore_tasks_total", task="sample.hold", state="revoked", is_=1)
    assert seen.value("taskcore_revoked_ids") == 1
    until_scrape(port, "taskcore_pool_child_exits_total", why="terminated", is_=1)


def test_a_worker_whose_children_cannot_start_is_not_ready(sqlite_site: Site) -> None:
    (sqlite_site.folder / "broken.py").write_text(
        "import os\nfrom sample import app\nfrom taskcore.signals import worker_process_init\n"
        "@worker_process_init.connect\ndef fail(**_):\n    os._exit(3)\n"
    )
    options = ("-c", "1", "--http", "0", "-I", "broken")
    port = port_of(sqlite_site.worker(*options, ready=False))
    until(lambda: ready(port) == ["pool"], "the worker to say that no child is up")
    assert get(port, "/live")[0] == 200


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_every_pool_is_served(sqlite_site: Site, pool: str) -> None:
    worker = sqlite_site.worker("-P", pool, "--http", "0")
    port = port_of(worker)
    running = sqlite_site.task("hold").delay(str(sqlite_site.gate()))
    sqlite_site.wait_written(1)
    until_ready(port)
    until_scrape(port, "taskcore_tasks_active", is_=1)
    sqlite_site.gate().touch()
    assert running.get(timeout=WAIT) == "held"
    seen = until_scrape(port, "taskcore_tasks_total", task="sample.hold", state="succeeded", is_=1)
    assert seen.value("taskcore_worker_info", pool=pool) == 1
    assert seen.value("taskcore_pool_children") == 0
    assert worker.stop() == 0


def test_a_worker_that_stops_is_not_ready_until_its_port_is_closed(sqlite_site: Site) -> None:
    worker = sqlite_site.worker("-c", "1", "--http", "0")
    port = port_of(worker)
    running = sqlite_site.task("hold").delay(str(sqlite_site.gate()))
    sqlite_site.wait_written(1)
    worker.signal(signal.SIGTERM)
    until(lambda: ready(port) == ["stopping"], "the worker to say that it is stopping")
    assert get(port, "/live")[0] == 200 and scrape(port).value("taskcore_worker_ready") == 0
    sqlite_site.gate().touch()
    assert worker.wait() == 0
    assert not listens(port) and running.get(timeout=WAIT) == "held"


def test_the_broker_and_the_page_say_the_same(site: Site) -> None:
    port = port_of(site.worker("-c", "1", "-n", "w1@host", "--http", "0"))
    assert site.cli("health", "-n", "w1@host", "-w", "30") == "w1@host is ready\n"
    site.cli("control", "cancel_consumer", "taskcore")
    assert ready(port) == ["queues"]
    text = site.cli("health", "-n", "w1@host", code=1)
    assert text == "w1@host is not ready\n  queues: the worker consumes from no queue\n"
    assert site.cli("health", "--http", f":{port}", code=1) == text
    assert site.cli("health", "-n", "w1@host", "--live") == "w1@host is live\n"
    replies = json.loads(site.cli("inspect", "health", "-j"))
    assert replies["w1@host"]["reasons"][0]["check"] == "queues"
    site.cli("control", "add_consumer", "taskcore")
    until_ready(port)
    assert site.cli("health", "-n", "w1@host") == "w1@host is ready\n"


def test_an_address_that_cannot_be_used_is_one_sentence(sqlite_site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = sqlite_site.cli("worker", "--http", str(port), code=1)
    assert f"`127.0.0.1:{port}`" in text and "another program listens there" in text
    assert "Traceback" not in text
    text = sqlite_site.cli("worker", "--http", "nonsense", code=1)
    assert "`nonsense` is no address" in text and "host:port" in text and "Traceback" not in text
    text = sqlite_site.cli("worker", "--", "worker.http=1.5.5.5.5:1", code=1)
    assert "1.5.5.5.5:1" in text and "Traceback" not in text
    assert "no worker answers" in sqlite_site.cli("health", "--http", "127.0.0.1:1", code=NOBODY)
    assert "expected what" in sqlite_site.cli("health", "--http", "nonsense", code=2)


def test_a_socket_in_the_file_system(sqlite_site: Site) -> None:
    path = sqlite_site.folder / "w.sock"
    worker = sqlite_site.worker("-c", "1", "-n", "w1@host", "--http", f"unix:{path}")
    ask = ("health", "--http", f"unix:{path}")
    assert sqlite_site.cli(*ask, "--wait", "30") == "w1@host is ready\n"
    worker.kill()
    assert path.exists()
    assert "no worker answers" in sqlite_site.cli(*ask, code=NOBODY)
    worker = sqlite_site.worker("-c", "1", "-n", "w1@host", "--http", f"unix:{path}")
    assert sqlite_site.cli(*ask, "--live") == "w1@host is live\n"
    assert worker.stop() == 0 and not path.exists()


def test_the_terminal_says_the_port_where_the_log_does_not(sqlite_site: Site) -> None:
    worker = sqlite_site.worker("-c", "1", "-l", "warning", "--http", "0")
    line = worker.wait_for(r"ready, health at http://127\.0\.0\.1:\d+")
    until_ready(int(line.rpartition(":")[2]))


def slow(port: int) -> socket.socket:
    """A connection that begins a request and does not end it."""
    link = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    link.sendall(b"GET /live HTTP/1.1\r\nA: ")
    return link


def test_hostile_clients_do_no_harm(sqlite_site: Site) -> None:
    worker = sqlite_site.worker("-c", "1", "--http", "0")
    port = port_of(worker)
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            link = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
            stack.enter_context(link)
            link.sendall(b"GET /live HTTP/1.1\r\nA: ")
        until_ready(port)
        assert sqlite_site.task("add").delay(1).get(timeout=WAIT) == 2
        assert scrape(port).value("process_open_fds") < 200
    huge = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    with huge, contextlib.suppress(ConnectionError):
        huge.sendall(b"GET /live HTTP/1.1\r\nA: " + b"x" * 10_000_000)
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as large:
        large.sendall(b"GET /live HTTP/1.1\r\nA: " + b"x" * 20_000)
        assert large.recv(100).startswith(b"HTTP/1.1 431 ")
    with slow(port) as link:
        assert link.recv(100).startswith(b"HTTP/1.1 408 ")
    for text, status in [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /live HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"405"),
    ]:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as link:
            link.sendall(text)
            assert link.recv(100).startswith(b"HTTP/1.1 " + status)
    status, _, body = get(port, "/metrics", method="HEAD")
    assert (status, body) == (200, "")
    assert sqlite_site.task("add").delay(1).get(timeout=WAIT) == 2
    assert worker.stop() == 0 and "panicked" not in worker.output


def test_many_names_of_tasks_are_a_bounded_number_of_series(sqlite_site: Site) -> None:
    source = (
        "from sample import app\n"
        "for n in range(150):\n"
        "    app.task(name=f'many.t{n}')(lambda: None)\n"
    )
    (sqlite_site.folder / "many.py").write_text(source)
    port = port_of(sqlite_site.worker("-c", "1", "--http", "0", "-I", "many"))
    for n in range(150):
        sqlite_site.app.send_task(f"many.t{n}")
    seen = until_scrape(port, "taskcore_tasks_total", state="succeeded", is_=150)
    tasks = {sample.labels["task"] for sample in seen.families["taskcore_tasks"].samples}
    assert len(tasks) == 101 and "other" in tasks
    assert seen.value("taskcore_tasks_total", task="other") == 50


@pytest.fixture
def served(sqlite_site: Site) -> tuple[Worker, int]:
    """A worker that has done something, and its port."""
    worker = sqlite_site.worker("-c", "1", "--http", "0")
    sqlite_site.task("add").delay(1).get(timeout=WAIT)  # so a child is up
    return worker, port_of(worker)


def test_the_page_lists_what_is_served(served: tuple[Worker, int]) -> None:
    families = scrape(served[1]).families
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (\w+) \| ([^|]*) \|", (DOCS / "health.md").read_text(), re.M
    )
    listed = [(name, kind) for name, kind, _ in rows]
    full = {"counter": "_total"}
    there = [(f.name + full.get(f.type, ""), f.type) for f in families.values()]
    assert listed == there


def test_the_dashboard_asks_for_what_is_served(served: tuple[Worker, int]) -> None:
    dashboard = json.loads((DOCS / "grafana" / "taskcore.json").read_text())
    text = json.dumps([dashboard["panels"], dashboard["templating"]])
    names = set(re.findall(r"\b(?:taskcore|process)_[a-z_]+", text))
    page = (DOCS / "health.md").read_text()
    names |= set(re.findall(r"\b(?:taskcore|process)_[a-z_]+", page))
    assert len(names) > 20 and names <= scrape(served[1]).names
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        assert panel["title"] and all(target["expr"] for target in panel["targets"])


def test_a_probe_needs_no_app(served: tuple[Worker, int], tmp_path: Path) -> None:
    from support.process import TASKCORE

    done = subprocess.run(
        [TASKCORE, "health", "--http", str(served[1])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.endswith("is ready\n"), done.stderr
