"""Chords of a stock Celery client: on taskcore workers, and with members on both kinds of workers."""

from types import ModuleType
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError

from support.wait import until

WAIT = 30


def alone(result: Any) -> Any:
    """A result without its parents, whose errors a stock client raises first."""
    return result.app.AsyncResult(result.id)


@pytest.mark.parametrize("size", [1, 3, 50])
def test_a_chord_runs_its_body_once_with_the_results_in_order(
    mixed: Any, stock: ModuleType, size: int
) -> None:
    mixed.taskcore_worker()
    made = chord((stock.add.s(n, n) for n in range(size)), stock.echo.s())()
    assert made.get(timeout=WAIT) == [2 * n for n in range(size)]
    mixed.wait_queue("celery", depth=0, in_flight=0, dead=0)


def test_values_of_every_type_reach_the_body(mixed: Any, stock: ModuleType) -> None:
    import datetime as dt

    mixed.taskcore_worker()
    values = [None, 1.5, "☃", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), {"x": [1, {}]}, 1 << 70]
    assert (
        chord([stock.echo.s(one) for one in values], stock.echo.s())().get(timeout=WAIT) == values
    )


def test_a_body_that_takes_no_results(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    made = chord([stock.add.s(1, 1), stock.add.s(2, 2)], stock.echo.si("mine"))()
    assert made.get(timeout=WAIT) == "mine"


def test_a_body_that_is_followed(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker("-c", "1")
    body = stock.echo.s()
    body.link(stock.echo.s())
    made = chain(chord([stock.add.s(1, 1)], body), stock.echo.s())()
    assert made.get(timeout=WAIT) == [2]


def test_a_chain_in_the_header_counts_with_its_last_task(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    header = [chain(stock.add.s(1, 1), stock.add.s(10)), stock.add.s(2, 2)]
    assert chord(header, stock.echo.s())().get(timeout=WAIT) == [12, 4]


def test_groups_in_the_header_give_what_they_give_on_stock_workers(
    mixed: Any, stock: ModuleType
) -> None:
    def results() -> Any:
        inner = chord([stock.add.s(5, 5), stock.add.s(6, 6)], stock.echo.s())
        headers = [
            [group(stock.add.s(1, 1), stock.add.s(2, 2)), stock.add.s(3, 3)],
            [chain(stock.add.s(1, 1), group(stock.add.s(2), stock.add.s(3))), stock.add.s(4, 4)],
            [inner, stock.add.s(7, 7)],
        ]
        made = [chord(header, stock.echo.s())() for header in headers]
        return [sorted(map(str, one.get(timeout=WAIT))) for one in made]

    worker = mixed.celery_worker()
    expected = results()
    worker.stop()
    mixed.taskcore_worker()
    assert results() == expected


@pytest.mark.parametrize("where", ["member", "chain"])
def test_a_failed_member_ends_all_that_was_to_come(
    mixed: Any, stock: ModuleType, where: str
) -> None:
    mixed.taskcore_worker("-c", "1")
    failing = stock.fail.s("on purpose")
    if where == "chain":
        failing = chain(failing, stock.echo.s(), stock.echo.s())
    body = stock.echo.s().on_error(stock.log.si("told"))
    made = chain(chord([stock.add.s(1, 1), failing, stock.add.s(2, 2)], body), stock.echo.s())()
    with pytest.raises(ChordError, match=r"Dependency .* raised ValueError\('on purpose'\)"):
        alone(made).get(timeout=WAIT)
    with pytest.raises(ChordError):
        alone(made.parent).get(timeout=WAIT)
    assert mixed.wait_written(1) == ["told"]


def test_a_revoked_member_ends_the_body(mixed: Any, stock: ModuleType) -> None:
    import datetime as dt

    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)
    made = chord([stock.add.s(1, 1), stock.log.s("late").set(expires=past)], stock.echo.s())()
    mixed.taskcore_worker()
    with pytest.raises(ChordError, match=r"TaskRevokedError\('expired'\)"):
        alone(made).get(timeout=WAIT)


def test_an_unknown_member_ends_the_body(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    nobody = stock.app.signature("sample.nobody")
    made = chord([stock.add.s(1, 1), nobody], stock.echo.s())()
    with pytest.raises(ChordError, match=r"NotRegistered"):
        alone(made).get(timeout=WAIT)


def test_a_chord_in_a_chord_fails_all_the_way_up(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    inner = chord([stock.fail.s("deep"), stock.add.s(1, 1)], stock.echo.s())
    made = chord([inner, stock.add.s(2, 2)], stock.echo.s())()
    with pytest.raises(ChordError, match="deep"):
        alone(made).get(timeout=WAIT)


def test_a_member_that_is_retried_counts_once(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    made = chord([stock.try_until.s(2), stock.add.s(1, 1)], stock.echo.s())()
    assert made.get(timeout=WAIT) == [2, 2]


def test_ignored_members_count(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    header = [stock.add.s(1, 1).set(ignore_result=True), stock.add.s(2, 2)]
    assert chord(header, stock.echo.s())().get(timeout=WAIT) == [2, 4]


def test_both_kinds_of_workers_run_the_members_of_one_chord(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    mixed.celery_worker()
    for _ in range(5):
        header = (stock.log.s(str(n)) for n in range(100))
        assert chord(header, stock.echo.s())().get(timeout=WAIT) == [str(n) for n in range(100)]
    until(lambda: len(mixed.written()) == 500, "each member to have run once")
