"""Chords, and workflows of all kinds, through real workers: what they mean is told by an interpreter."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from support.site import Site
from support.worker import working
from support.workflows import Maker, check
from taskcore import chord, group
from taskcore.testing import memory_app

WAIT = 30


def test_a_chord(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    add, gather = sqlite_site.task("add"), sqlite_site.task("echo")
    result = chord([add.s(i, i) for i in range(10)])(gather.s())
    assert result.get(timeout=WAIT) == [2 * i for i in range(10)]
    assert result.parent.get() == [2 * i for i in range(10)]
    step = add.s(1, 1) | group(add.s(1), add.s(2)) | gather.s() | gather.s()
    assert step.delay().get(timeout=WAIT) == [3, 4]


class Place(NamedTuple):
    """An app of nodes, the lines of its ledger, and what starts a worker for as long as it lasts."""

    app: Any
    written: Callable[[], list[str]]
    worker: Callable[[str], AbstractContextManager[Any]]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """Over every broker and store."""
    import nodes

    if request.param == "memory":
        ledger = tmp_path / "ledger"
        monkeypatch.setenv("SAMPLE_LEDGER", str(ledger))

        def written() -> list[str]:
            return ledger.read_text().splitlines() if ledger.exists() else []

        with memory_app() as app:
            yield Place(nodes.register(app), written, lambda _: working(app))
        return
    site = request.getfixturevalue(f"{request.param}_site")

    def worker(pool: str) -> AbstractContextManager[Any]:
        site.worker("-P", pool, "-c", "2", "-l", "warning", app="nodes")
        return nullcontext()

    app = nodes.make(broker_url=site.broker, result_backend=site.results)
    yield Place(app, site.written, worker)


@pytest.mark.parametrize("failing", [0.0, 0.12], ids=["whole", "failing"])
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_random_workflows_mean_what_they_say(place: Place, pool: str, failing: float) -> None:
    """Nodes that fail, are retried and are replaced, in every form; `WORKFLOWS` says how many."""
    maker = Maker(Random(int(os.environ.get("SEED", "7"))), failing)
    specs = [maker.make(depth=4) for _ in range(int(os.environ.get("WORKFLOWS", "8")))]
    with place.worker(pool):
        check(place.app, specs, place.written)


@pytest.mark.parametrize("failing", [0.0, 0.004], ids=["whole", "failing"])
def test_large_workflows_mean_what_they_say(place: Place, failing: float) -> None:
    maker = Maker(Random(int(os.environ.get("SEED", "11"))), failing)
    specs = [maker.make_large(6, 250, 500) for _ in range(int(os.environ.get("LARGE", "1")))]
    with place.worker("prefork"):
        check(place.app, specs, place.written)


def test_a_member_joins_a_chord(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    add, invite = sqlite_site.task("add"), sqlite_site.task("invite")
    result = chord([add.s(1, 1), invite.s(add.s(2, 2))])(sqlite_site.task("echo").s())
    assert sorted(result.get(timeout=WAIT), key=str) == [2, 4, "invited"]


def test_a_member_of_a_chord_is_replaced(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    add, become = sqlite_site.task("add"), sqlite_site.task("become")
    instead = [
        add.s(1, 2),
        add.s(1, 2) | add.s(10),
        group(add.s(1, 2), add.s(3, 4)),
        chord([add.s(1, 2), add.s(3, 4)], sqlite_site.task("echo").s()),
    ]
    result = chord([become.s(one) for one in instead])(sqlite_site.task("echo").s())
    assert result.get(timeout=WAIT) == [3, 13, [3, 7], [3, 7]]
