"""Which due times are sent: the rules for those that were missed, by table and by property."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcore.beat import code, definition, slots
from taskcore.beat.entry import ScheduleEntry
from taskcore.beat.slots import SECOND, Step
from taskcore.schedules import schedule

MINUTE = 60 * SECOND


class App:
    """What a schedule asks of its app."""

    timezone = UTC

    def now(self) -> datetime:
        return datetime.now(UTC)


def entry(every: Any, **rules: Any) -> ScheduleEntry:
    return ScheduleEntry(name="e", task="t", schedule=every, app=App(), **rules)


def sent(of: ScheduleEntry, done: int, now: int, deadline: float | None = None) -> list[Step]:
    return slots.steps(of, done, now, deadline)


@pytest.mark.parametrize(
    ("missed", "now", "expected"),
    [
        ("once", 59, []),
        ("once", 60, [(60, True)]),
        ("once", 119, [(60, True)]),
        ("once", 305, [(300, True)]),
        ("once", 359, [(300, True)]),
        ("skip", 60, [(60, True)]),
        ("skip", 70, [(60, True)]),
        ("skip", 71, [(60, False)]),
        ("skip", 305, [(300, True)]),
        ("skip", 355, [(300, False)]),
        ("all", 60, [(60, True)]),
        ("all", 200, [(60, True), (120, True), (180, True)]),
    ],
)
def test_what_is_done_about_due_times(missed: str, now: int, expected: list[Any]) -> None:
    found = sent(entry(60, missed=missed), 0, now * SECOND)
    assert [(due // SECOND, send) for due, send in found] == expected


@given(
    st.sampled_from(["once", "skip", "all"]),
    st.integers(1, 3 * MINUTE),
    st.floats(0, 30),
    st.lists(st.integers(0, 10 * MINUTE), min_size=1, max_size=30),
)
def test_each_due_time_is_sent_at_most_once_and_never_early(
    missed: str, every: int, jitter: float, waits: list[int]
) -> None:
    every = every + 10_000
    of = entry(timedelta(microseconds=every), missed=missed, jitter=min(jitter, every / SECOND / 2))
    done = now = 1_800_000_000 * SECOND
    begin, dues = done, []
    for wait in waits:
        now += wait % (every * slots.MOST)
        for due, send in sent(of, done, now):
            assert slots.jittered(of, due) <= now and due > done
            done = due
            dues += [due] if send else []
    assert dues == sorted(set(dues))
    assert all((due - begin) % every == 0 for due in dues)
    if missed == "all":
        # None is left out, and none is left over that could have been sent.
        assert dues == [begin + n * every for n in range(1, len(dues) + 1)]
    if missed != "all":
        assert slots.jittered(of, slots.next_due(of.schedule, done)) > now


def test_jitter_is_the_same_on_every_beat_and_within_bounds() -> None:
    one, other = entry(60, jitter=20), entry(60, jitter=20)
    late = [slots.jittered(one, due) - due for due in range(0, 100 * MINUTE, MINUTE)]
    assert late == [slots.jittered(other, due) - due for due in range(0, 100 * MINUTE, MINUTE)]
    assert 0 <= min(late) < max(late) <= 20 * SECOND and len(set(late)) > 90


def test_many_missed_ones_come_in_portions() -> None:
    found = sent(entry(1, missed="all"), 0, 10_000 * SECOND)
    assert [due for due, _ in found] == [n * SECOND for n in range(1, slots.MOST + 1)]


def test_intervals_do_not_drift() -> None:
    third = schedule(timedelta(seconds=1) / 3)
    due = 0
    for _ in range(3_000):
        due = slots.next_due(third, due)
    assert due == 3_000 * 333_333
    with pytest.raises(ValueError, match="more than 0"):
        slots.next_due(schedule(0), 0)


@pytest.mark.parametrize(("name", "value"), [("missed", "never"), ("jitter", -1), ("jitter", "5")])
def test_rules_that_do_not_exist_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} of entry `e`"):
        entry(60, **{name: value})


def test_jitter_is_less_than_the_interval() -> None:
    with pytest.raises(ValueError, match="less than the 5 seconds"):
        entry(5, jitter=5)


def test_only_the_built_in_classes_are_known_in_advance() -> None:
    class Renamed(schedule):
        pass

    class Own(schedule):
        def is_due(self, last_run_at: Any) -> Any:
            return True, 1.0

    assert slots.is_known(schedule(1)) and slots.is_known(Renamed(1))
    assert not slots.is_known(Own(1)) and not slots.is_known(object())


def test_an_entry_of_the_code_is_shown_whatever_its_arguments() -> None:
    odd = entry(60, args=({1: "a", "b": object()}, {(1, 2): 3}))
    said = definition.load(definition.dump(odd, code=True))
    assert said["task"] == "t" and "(1, 2): 3" in said["args"]
    for args in ((object(),), ({(1, 2): 3},)):
        with pytest.raises(TypeError):
            definition.dump(entry(60, args=args), code=False)


@given(st.integers(1, 10**9), st.booleans(), st.sampled_from(["once", "skip", "all"]))
def test_an_entry_that_is_added_is_made_from_its_text(
    seconds: int, relative: bool, missed: str
) -> None:
    one = entry(schedule(seconds, relative), args=(1, "a"), kwargs={"k": None}, missed=missed)
    again = definition.make(App(), "e", definition.load(definition.dump(one, code=False)))
    assert again == one and (again.schedule.relative, again.missed) == (relative, missed)


class Fields(dict[str, Any]):
    """What a program has instead of a dict."""


@pytest.mark.parametrize("kind", [dict, Fields])
def test_a_schedule_that_nobody_changes_is_the_one_that_was_copied(kind: Any) -> None:
    said = {"a": kind(task="t", schedule=5.0, args=(float("nan"),)), "b": object()}
    app: Any = SimpleNamespace(conf={"beat_schedule": said})
    copy = code.copied(app)
    assert code.is_as_copied(app, copy)
    said["c"] = said.pop("b")
    assert not code.is_as_copied(app, copy)
    copy = code.copied(app)
    said["a"] = kind(said["a"], schedule=6.0)
    assert not code.is_as_copied(app, copy)
