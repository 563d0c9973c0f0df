"""Chords, and workflows of all kinds, through real workers: what they mean is told by an interpreter."""

from random import Random

import pytest

from support.site import Site
from support.wait import until
from support.workflows import Failed, build, every_result, meaning, random_spec
from taskcore import chord, group
from taskcore.exceptions import ChordError

WAIT = 30


def test_a_chord(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    add, gather = sqlite_site.task("add"), sqlite_site.task("echo")
    result = chord([add.s(i, i) for i in range(10)])(gather.s())
    assert result.get(timeout=WAIT) == [2 * i for i in range(10)]
    assert result.parent.get() == [2 * i for i in range(10)]
    step = add.s(1, 1) | group(add.s(1), add.s(2)) | gather.s() | gather.s()
    assert step.delay().get(timeout=WAIT) == [3, 4]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_random_workflows_mean_what_they_say(sqlite_site: Site, pool: str) -> None:
    sqlite_site.worker("-P", pool, "-c", "2")
    random = Random(7)
    specs = [random_spec(random, depth=4) for _ in range(30)]
    running = [(spec, build(sqlite_site, spec).apply_async((0,))) for spec in specs]
    for spec, result in running:
        assert result.get(timeout=WAIT) == meaning(spec, 0), spec


def test_nobody_waits_for_ever_when_parts_of_a_workflow_fail(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "prefork", "-c", "2")
    random = Random(8)
    specs = [random_spec(random, depth=4, failing=0.2) for _ in range(30)]
    running = [(spec, build(sqlite_site, spec).apply_async((0,))) for spec in specs]
    for spec, result in running:
        try:
            expected = meaning(spec, 0)
        except Failed:
            with pytest.raises((ValueError, ChordError)):
                result.get(timeout=WAIT)
        else:
            assert result.get(timeout=WAIT) == expected, spec
        for one in every_result(result):
            until(one.ready, f"a result of {spec}")


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
