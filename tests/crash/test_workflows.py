"""Workers are killed while random workflows run: others finish them, and they mean what they say."""

import os
from itertools import count
from random import Random

import pytest

from support.site import Site
from support.wait import until
from support.workflows import Maker, build, finish

KILLS = 2
"""Workers that are killed: one fewer than a message may cost."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("failing", [0.0, 0.08], ids=["whole", "failing"])
def test_workflows_outlive_their_workers(site: Site, failing: float) -> None:
    """Late acknowledgement: each node runs once or more, and every result is that of its workflow.
    `SEED` and `WORKFLOWS` say which and how many."""
    import nodes

    random = Random(int(os.environ.get("SEED", "5")))
    maker = Maker(random, failing)
    specs = [maker.make(depth=4) for _ in range(int(os.environ.get("WORKFLOWS", "10")))]
    app = nodes.make(broker_url=site.broker, result_backend=site.results)
    running = [(spec, build(app, spec).apply_async((0,))) for spec in specs]
    done = count(1)
    for _ in range(KILLS):
        victim = site.worker("-c", "2", "-l", "warning", app="nodes")
        goal = len(site.written()) + random.randint(1, max(2, maker.nodes // 6))
        until(lambda goal=goal: len(site.written()) >= goal, f"kill {next(done)}")
        victim.kill()
    site.worker("-c", "2", "-l", "warning", app="nodes")
    finish(running, site.written, often=True)
    site.wait_queue(depth=0, in_flight=0, dead=0)
