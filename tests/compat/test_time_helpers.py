"""The helpers of `celery.utils.time` that are here answer as Celery's do."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.utils import time as stock
from hypothesis import given
from hypothesis import strategies as st

from taskcore.utils import time as ours

OSLO = ZoneInfo("Europe/Oslo")
ZONES: list[Any] = [None, UTC, ZoneInfo("UTC"), OSLO, timezone(timedelta(hours=3))]
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2050, 1, 1))


def test_every_name_here_is_one_of_celerys() -> None:
    assert {name for name in ours.__all__ if not hasattr(stock, name)} == set()


@given(MOMENTS, st.sampled_from(ZONES), st.sampled_from([*ZONES, "Asia/Tokyo"]), st.booleans())
def test_times_are_made_aware_as_by_celery(
    at: datetime, zone: Any, wanted: Any, naive_as_utc: bool
) -> None:
    at = at.replace(tzinfo=zone)
    assert ours.is_naive(at) == stock.is_naive(at) == (zone is None)
    found = ours.maybe_make_aware(at, wanted, naive_as_utc)
    expected = stock.maybe_make_aware(at, wanted, naive_as_utc)
    assert (found, found.utcoffset()) == (expected, expected.utcoffset())
    if not isinstance(wanted, str) and wanted is not None:
        assert ours.localize(at, wanted) == stock.localize(at, wanted)
        assert ours.timezone.to_local(at, wanted) == stock.timezone.to_local(at, wanted)
    assert ours.to_utc(at) == stock.to_utc(at)
    assert ours.timezone.to_system(at) == stock.timezone.to_system(at)


@pytest.mark.parametrize("hour", [1, 2, 3])
@pytest.mark.parametrize("day", [(2027, 3, 28), (2027, 10, 31)])
def test_times_at_a_change_of_the_clock(day: tuple[int, int, int], hour: int) -> None:
    at = datetime(*day, hour, 30)
    assert ours.make_aware(at, OSLO).astimezone(UTC) == stock.make_aware(at, OSLO).astimezone(UTC)


@given(st.floats(-10, 1e7), st.sampled_from(["", "in"]), st.sampled_from(["", " "]), st.booleans())
def test_seconds_in_words(seconds: float, prefix: str, sep: str, microseconds: bool) -> None:
    words = ours.humanize_seconds(seconds, prefix, sep, microseconds=microseconds)
    assert words == stock.humanize_seconds(seconds, prefix, sep, microseconds=microseconds)
    assert ours.humanize_seconds(0, now="at once") == stock.humanize_seconds(0, now="at once")


@pytest.mark.parametrize("text", ["100/m", "2/h", "0.5/s", "7", "", None, 3, 0.5, 0])
def test_rates(text: Any) -> None:
    assert ours.rate(text) == stock.rate(text)


@pytest.mark.parametrize("value", [5, 0.5, timedelta(hours=1), None])
def test_durations(value: Any) -> None:
    assert ours.maybe_timedelta(value) == stock.maybe_timedelta(value)


@pytest.mark.parametrize(
    "value", [None, "", "2026-11-22T07:00:00Z", "2026-11-22T07:00:00.5+01:00", datetime(2026, 1, 1)]
)
def test_times_as_text(value: Any) -> None:
    assert ours.maybe_iso8601(value) == stock.maybe_iso8601(value)


@pytest.mark.parametrize("name", ["monday", "Sun", "wed", "sat"])
def test_days_by_name(name: str) -> None:
    assert ours.weekday(name) == stock.weekday(name)
    with pytest.raises(KeyError):
        ours.weekday("never")


def test_waits_that_double() -> None:
    for retries in range(12):
        expected = stock.get_exponential_backoff_interval(2, retries, 600)
        assert ours.get_exponential_backoff_interval(2, retries, 600) == expected
        assert 0 <= ours.get_exponential_backoff_interval(2, retries, 600, True) <= expected
