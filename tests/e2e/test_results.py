"""Results that a store will not take, and stores that are away: nothing else waits for them."""

from pathlib import Path

import pytest

from support.redis_server import RedisServer
from support.site import Site
from taskcore.exceptions import EncodeError

WAIT = 30


def test_a_result_over_the_limit_is_a_failure_that_says_so(site: Site) -> None:
    lines = ["import sample", "app = sample.make(result_max_size=1000)"]
    (site.folder / "limited.py").write_text("\n".join(lines))
    site.worker("-c", "1", app="limited")
    too_long = site.task("echo").delay("x" * 999)
    with pytest.raises(
        EncodeError, match=r"`1001` bytes, more than the `result_max_size` of `1000`"
    ):
        too_long.get(timeout=WAIT)
    assert site.task("echo").delay("x" * 998).get(timeout=WAIT) == "x" * 998
    with pytest.raises(ValueError, match=r"x{5000}"):
        site.task("fail").delay("x" * 5000).get(timeout=WAIT)
    # Of an exception that is too long itself the beginning is left.
    with pytest.raises(Exception, match=r"ValueError: xxx.*result_max_size"):
        site.task("fail").delay("x" * 100_000).get(timeout=WAIT)


def test_what_one_key_or_one_size_forbids_holds_up_nothing_else(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--proto-max-bulk-len", "1mb").start()
    try:
        with Site(tmp_path, f"sqlite:///{tmp_path}/queue.db", server.url()) as site:
            foreign = site.task("add").delay(1, 1)
            server.command("LPUSH", f"celery-task-meta-{foreign.id}", "not ours")
            too_large = site.task("repeat").delay("x", 5 << 20)
            others = [site.task("log_late").delay(str(n)) for n in range(20)]
            worker = site.worker()
            with pytest.raises(EncodeError, match=r"proto-max-bulk-len"):
                too_large.get(timeout=WAIT)
            assert [other.get(timeout=WAIT) for other in others] == [str(n) for n in range(20)]
            site.wait_queue(depth=0, in_flight=0)
            worker.wait_for(rf"{foreign.id}.*celery-task-meta-{foreign.id}")
    finally:
        server.stop()


def test_a_result_that_a_stop_leaves_behind_is_named(tmp_path: Path) -> None:
    server = RedisServer(tmp_path).start()
    try:
        with Site(tmp_path, f"sqlite:///{tmp_path}/queue.db", server.url()) as site:
            worker = site.worker("-c", "1")
            server.stop()
            early, late = site.task("log").delay("early"), site.task("log_late").delay("late")
            site.wait_written(2)
            worker.stop()
            worker.wait_for(rf"(?m){early.id}.*lost|lost.*{early.id}")
            worker.wait_for(rf"(?m){late.id}.*goes back|goes back.*{late.id}")
            assert site.queue()["depth"] == 1
    finally:
        server.stop()
