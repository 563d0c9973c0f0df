"""Schedules answer as stock Celery's do, away from changes of the clock; at those by rules of their
own."""

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import celery
import pytest
from celery import schedules as stock
from hypothesis import example, given
from hypothesis import strategies as st

from taskcore import Taskcore, schedules
from taskcore.exceptions import ImproperlyConfigured

ZONES = ("UTC", "Asia/Kolkata", "Europe/Berlin", "America/New_York")
# No zone above changes its clock in these days.
MOMENTS = st.datetimes(datetime(2026, 5, 1), datetime(2026, 9, 30), timezones=st.just(UTC))
FIELDS = {"minute": (60, 0), "hour": (24, 0), "day_of_week": (7, 0), "day_of_month": (31, 1)}


def field(count: int, first: int) -> st.SearchStrategy[Any]:
    number = st.integers(first, first + count - 1)
    part = st.one_of(
        st.just("*"),
        number.map(str),
        st.tuples(number, number).map(lambda pair: f"{pair[0]}-{pair[1]}"),
        st.integers(1, count).map(lambda step: f"*/{step}"),
        st.tuples(number, number, st.integers(1, 5)).map(lambda t: f"{t[0]}-{t[1]}/{t[2]}"),
    )
    return st.one_of(
        st.just("*"),
        number,
        st.sets(number, min_size=1, max_size=5),
        st.lists(part, min_size=1, max_size=3).map(",".join),
    )


CRONTABS = st.fixed_dictionaries({name: field(*size) for name, size in FIELDS.items()})


def both(zone: str, now: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the schedules of each side are made with."""
    ours = Taskcore("ours", broker="memory://", timezone=zone, set_as_current=False)
    theirs = celery.Celery("theirs", set_as_current=False)
    theirs.conf.timezone = zone
    return tuple({"app": app, "nowfun": lambda: now} for app in (ours, theirs))  # type: ignore[return-value]


@given(CRONTABS, st.sampled_from(ZONES), MOMENTS, st.integers(0, 100 * 86400))
@example({"minute": 0, "hour": 0}, "UTC", datetime(2026, 5, 31, 23, 59, 59, 999999, UTC), 1)
@example({"minute": "*/15"}, "Asia/Kolkata", datetime(2026, 5, 31, 12, 0, tzinfo=UTC), 0)
def test_a_crontab_is_due_when_celerys_is(
    fields: dict[str, Any], zone: str, last: datetime, later: int
) -> None:
    now = min(last + timedelta(seconds=later), datetime(2026, 10, 1, tzinfo=UTC))
    ours, theirs = both(zone, now)
    ours["app"].conf.beat_cron_starting_deadline = None
    expected = stock.crontab(**fields, **theirs)
    found = schedules.crontab(**fields, **ours)
    # What is due after a change of the clock is another matter.
    for when, since in ((expected, last), (expected, now)):
        if since + when.remaining_estimate(since) - (since - now) > datetime(
            2026, 10, 15, tzinfo=UTC
        ):
            return
    answer, told = expected.is_due(last), found.is_due(last)
    assert told[0] == answer[0]
    assert told[1] == pytest.approx(answer[1], abs=1e-3)
    remaining = expected.remaining_estimate(last).total_seconds()
    assert found.remaining_estimate(last).total_seconds() == pytest.approx(remaining, abs=1e-3)


@given(
    st.timedeltas(timedelta(seconds=1), timedelta(days=3)),
    st.booleans(),
    st.sampled_from(ZONES),
    MOMENTS,
    st.floats(0, 5 * 86400),
)
def test_an_interval_is_due_when_celerys_is(
    every: timedelta, relative: bool, zone: str, last: datetime, later: float
) -> None:
    now = last + timedelta(seconds=later)
    ours, theirs = both(zone, now)
    local = last.astimezone(ZoneInfo(zone))
    expected = stock.schedule(every, relative, **theirs).is_due(local)
    found = schedules.schedule(every, relative, **ours).is_due(local)
    assert found[0] == expected[0]
    assert found[1] == pytest.approx(expected[1], abs=1e-3)


@given(CRONTABS, MOMENTS, st.integers(0, 10 * 86400), st.integers(0, 5 * 86400))
def test_the_deadline_is_celerys(
    fields: dict[str, Any], last: datetime, later: int, deadline: int
) -> None:
    now = last + timedelta(seconds=later)
    ours, theirs = both("UTC", now)
    for app in (ours["app"], theirs["app"]):
        app.conf.beat_cron_starting_deadline = deadline
    expected = stock.crontab(**fields, **theirs).is_due(last)
    assert schedules.crontab(**fields, **ours).is_due(last)[0] == expected[0]


@given(st.sampled_from([(60, 0), (24, 0), (7, 0), (31, 1), (12, 1)]), st.data())
def test_fields_are_read_as_celery_reads_them(size: tuple[int, int], data: Any) -> None:
    spec = data.draw(field(*size).filter(lambda spec: isinstance(spec, str)))
    assert schedules.crontab_parser(*size).parse(spec) == stock.crontab_parser(*size).parse(spec)


@pytest.mark.parametrize(
    ("size", "spec"),
    [
        ((7, 0), "mon-fri"),
        ((7, 0), "Sunday,wednesday"),
        ((7, 0), "fri-mon/2"),
        ((12, 1), "nov-feb"),
    ],
)
def test_names_are_celerys(size: tuple[int, int], spec: str) -> None:
    assert schedules.crontab_parser(*size).parse(spec) == stock.crontab_parser(*size).parse(spec)


ODD = st.lists(
    st.sampled_from(
        [
            "*",
            "/",
            "-",
            ",",
            " ",
            "+",
            "_",
            "!",
            "0",
            "1",
            "2",
            "5",
            "12",
            "31",
            "mon",
            "Sunday",
            "jan",
            "sat",
            "x",
        ]
    ),
    max_size=8,
).map("".join)


@given(ODD, st.sampled_from([(60, 0), (24, 0), (7, 0), (31, 1), (12, 1)]))
@example("mon/2", (7, 0))
@example("1, 5", (60, 0))
@example("1-5-9", (60, 0))
@example("mon - fri", (7, 0))
@example("*/0", (60, 0))
@example("*\n", (60, 0))
@pytest.mark.filterwarnings("ignore:crontab field")
def test_any_text_is_accepted_or_refused_as_by_celery(spec: str, size: tuple[int, int]) -> None:
    try:
        expected = stock.crontab_parser(*size).parse(spec)
    except (stock.ParseException, ValueError):
        expected = None
    try:
        found = schedules.crontab_parser(*size).parse(spec)
    except schedules.ParseException:
        found = None
    assert found == expected


ALL_FIELDS = st.fixed_dictionaries(
    {name: field(*size) for name, size in {**FIELDS, "month_of_year": (12, 1)}.items()}
)


@given(ALL_FIELDS, st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))
@example({"day_of_month": 29, "month_of_year": 2}, datetime(2026, 1, 1, tzinfo=UTC))
def test_a_crontab_of_all_fields_is_due_when_celerys_is(
    fields: dict[str, Any], last: datetime
) -> None:
    ours, theirs = both("UTC", last)
    try:
        remaining = stock.crontab(**fields, **theirs).remaining_estimate(last)
    except ValueError:
        with pytest.raises(ValueError, match="never occurs"):
            schedules.crontab(**fields, **ours)
        return
    except RuntimeError:
        return  # Celery gives up looking
    assert schedules.crontab(**fields, **ours).remaining_estimate(last) == remaining


def test_what_is_passed_over_is_said() -> None:
    with pytest.warns(UserWarning, match="`/2` is passed over") as said:
        crontab = schedules.crontab(day_of_week="mon/2")
    assert crontab.day_of_week == {1} and said[0].filename == __file__


@pytest.mark.parametrize(
    "spec", ["", "1,,2", "-1", "*/", "1-5/", "61", "x", "*/0", "5/2", "1-", "60"]
)
def test_what_celery_cannot_read_is_refused(spec: str) -> None:
    with pytest.raises((stock.ParseException, ValueError)):
        stock.crontab_parser(60).parse(spec)
    with pytest.raises(schedules.ParseException, match="crontab field") as caught:
        schedules.crontab_parser(60).parse(spec)
    assert isinstance(caught.value, ValueError) and f"`{spec}`" in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.crontab(),
        lambda m: m.crontab(minute="*/5", hour=[1, 2], day_of_week="mon"),
        lambda m: m.crontab.from_string("0 12 1 * *"),
        lambda m: m.schedule(90),
        lambda m: m.schedule(timedelta(hours=26)),
        lambda m: m.schedule(0.5),
        lambda m: m.maybe_schedule(1),
        lambda m: m.maybe_schedule(None),
    ],
)
def test_they_are_printed_compared_and_pickled_as_celerys(make: Any) -> None:
    found = make(schedules)
    assert repr(found) == repr(make(stock))
    assert found == make(schedules) and pickle.loads(pickle.dumps(found)) == found


def test_what_is_equal() -> None:
    assert schedules.schedule(5) == timedelta(seconds=5) != schedules.schedule(6)
    assert schedules.crontab(minute="0-10/5") == schedules.crontab(minute={0, 5, 10})
    assert schedules.crontab(hour=1) != schedules.crontab(hour=2)
    assert schedules.crontab(hour=1, tz="Europe/Oslo") != schedules.crontab(hour=1)
    assert (schedules.crontab() == 5, schedules.schedule(5) == schedules.crontab()) == (
        False,
        False,
    )


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: schedules.crontab(minute=60), "from 0 to 59"),
        (lambda: schedules.crontab(minute=[0, 99]), "`99`"),
        (lambda: schedules.crontab(day_of_month=31, month_of_year="2,4"), "never occurs"),
        (lambda: schedules.crontab.from_string("* * * *"), "4 fields"),
        (lambda: schedules.crontab(tz="Mars/Base"), "Europe/Oslo"),
    ],
)
def test_what_is_wrong_is_said(make: Any, told: str) -> None:
    with pytest.raises((ValueError, ImproperlyConfigured), match=told):
        make()


def test_a_zone_of_its_own() -> None:
    oslo = schedules.crontab(hour=7, minute=30, tz="Europe/Oslo")
    due = oslo.next_after(datetime(2026, 7, 1, 6, tzinfo=UTC))
    assert due == datetime(2026, 7, 2, 5, 30, tzinfo=UTC)
    assert due.utcoffset() == timedelta(hours=2)
    # A clock that skips half past two: at the end of the gap. One that shows it twice: the first.
    night = schedules.crontab(hour=2, minute=30, tz="Europe/Oslo")
    spring = night.next_after(datetime(2027, 3, 27, 12, tzinfo=UTC))
    autumn = night.next_after(datetime(2027, 10, 30, 12, tzinfo=UTC))
    assert spring == datetime(2027, 3, 28, 1, tzinfo=UTC)
    assert autumn.astimezone(UTC) == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "event", ["dawn_civil", "sunrise", "solar_noon", "sunset", "dusk_nautical"]
)
@pytest.mark.parametrize("place", [(-37.81753, 144.96715), (78.2, 15.6)])
def test_the_sun_is_where_celery_sees_it(event: str, place: tuple[float, float]) -> None:
    pytest.importorskip("ephem")
    now = datetime(2026, 11, 22, 3, tzinfo=UTC)
    ours, theirs = both("UTC", now)
    for days in (0, 1, 30, 200):
        last = now - timedelta(days=days)
        expected = stock.solar(event, *place, **theirs).remaining_estimate(last).total_seconds()
        found = schedules.solar(event, *place, **ours)
        assert found.remaining_estimate(last).total_seconds() == pytest.approx(expected, abs=1)
    assert found == pickle.loads(pickle.dumps(found)) and repr(found) == repr(
        stock.solar(event, *place)
    )


def test_without_ephem_there_is_no_sun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ephem", None)
    with pytest.raises(Exception, match=r"install `taskcore\[solar\]`"):
        schedules.solar("sunset", 0, 0)
