"""A worker is killed at each station of a chord; another one finishes it."""

import os
import signal
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path

import pytest
import redis

from support.site import Site
from taskcore import chord

SCRIPTS = Path(__file__).resolve().parents[2] / "rust/core/src/result/redis"
MEMBERS = 6
WAIT = 60


def sent_script(name: str) -> Callable[[str], bool]:
    sha = sha1((SCRIPTS / f"{name}.lua").read_bytes(), usedforsecurity=False).hexdigest()
    return lambda command: sha in command


STATIONS: dict[str, Callable[[str], bool]] = {
    "a member is stored": lambda command: (
        command.startswith("SET celery-task-meta-")
        or ("EVALSHA" in command and "celery-task-meta-" in command)
    ),
    "a member is counted": sent_script("join"),
    "the results are read": lambda command: command.startswith("ZRANGE celery-taskset-meta-"),
    "the body is published": lambda command: (
        command.startswith("LPUSH") and "the-body" in command and "log_late" not in command
    ),
    "the join is closed": sent_script("unjoin"),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("station", STATIONS)
def test_a_worker_that_is_killed_leaves_the_chord_to_another(
    redis_site: Site, station: str
) -> None:
    """Late acknowledgement: each member runs once or twice, the body at least once, with the
    results of all."""
    site = redis_site
    victim = site.worker("-c", "2", "-l", "warning")
    reached = STATIONS[station]
    with (
        redis.Redis.from_url(site.results, decode_responses=True) as client,
        client.monitor() as seen,
    ):
        body = site.task("echo").s().set(task_id="the-body")
        result = chord([site.task("log_late").s(str(n)) for n in range(MEMBERS)], body)()
        for heard in seen.listen():
            if reached(heard["command"]):
                os.killpg(victim.pid, signal.SIGKILL)
                break
    site.worker("-c", "2", "-l", "warning")
    assert result.get(timeout=WAIT) == [str(n) for n in range(MEMBERS)]
    site.wait_queue(depth=0, in_flight=0, dead=0)
    ran = site.written()
    assert set(ran) == {str(n) for n in range(MEMBERS)}
    assert max(ran.count(one) for one in ran) <= 2
