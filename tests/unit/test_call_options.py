"""Options of a call become fields of a message."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from support.sources import names_in_core
from taskcore.exceptions import SettingIgnored
from taskcore.publishing.call_options import NAMES, PROTOCOL_HEADERS, to_args, to_fields, to_kwargs

NOW = 1_000_000.0


def fields(**options: Any) -> dict[str, Any]:
    return to_fields(options, NOW, UTC)


def test_nothing_becomes_nothing() -> None:
    assert fields() == {}
    assert fields(**dict.fromkeys(NAMES)) == {}


def test_times_are_unix_seconds() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert fields(countdown=5) == {"eta": NOW + 5}
    assert fields(countdown=timedelta(minutes=1)) == {"eta": NOW + 60}
    assert fields(eta=at) == {"eta": at.timestamp()}
    assert fields(eta=at.isoformat()) == {"eta": at.timestamp()}
    assert fields(expires=7) == {"expires": NOW + 7}
    assert fields(expires=-7) == {"expires": NOW}
    assert fields(expires=at) == {"expires": at.timestamp()}


def test_a_naive_time_is_of_the_apps_zone() -> None:
    naive = datetime(2026, 7, 1, 12)
    oslo = ZoneInfo("Europe/Oslo")
    assert (
        to_fields({"eta": naive}, NOW, oslo)["eta"]
        == datetime(2026, 7, 1, 10, tzinfo=UTC).timestamp()
    )


def test_a_countdown_wins_over_an_eta() -> None:
    assert fields(countdown=1, eta=datetime.now(UTC)) == {"eta": NOW + 1}


def test_a_soft_limit_above_the_hard_one_is_refused() -> None:
    with pytest.raises(ValueError, match="soft_time_limit is `10` and time_limit is `5`"):
        fields(soft_time_limit=10, time_limit=5)


def test_what_has_no_effect_is_said() -> None:
    with pytest.warns(SettingIgnored, match="app_id"):
        assert fields(app_id="x") == {}
    assert fields(throw=True) == {}


def test_links_are_lists_of_signatures() -> None:
    sig = {
        "task": "t",
        "args": [],
        "kwargs": {},
        "options": {},
        "subtask_type": None,
        "immutable": False,
    }
    assert fields(link=sig) == {"callbacks": [sig]}
    assert fields(link_error=[sig, sig]) == {"errbacks": [sig, sig]}
    with pytest.raises(TypeError, match="signature"):
        fields(link="t")


def test_what_keeps_its_name() -> None:
    given = {
        "task_id": "i",
        "priority": 3,
        "serializer": "json",
        "shadow": "s",
        "headers": {"x": 1},
        "ignore_result": False,
        "retry": False,
        "retries": 0,
        "group_index": 0,
        "time_limit": 3.0,
    }
    assert fields(**given, group_id="g") == {**given, "group": "g"}


def test_stamps() -> None:
    assert fields(stamped_headers=["a"], a="v") == {"stamped_headers": ["a"], "stamps": {"a": "v"}}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"countdwn": 1}, TypeError, "countdown"),
        ({"producer": 1}, TypeError, r"expected one of `app\.producer_or_acquire"),
        ({"countdown": "1"}, TypeError, "number of seconds"),
        ({"countdown": float("nan")}, TypeError, "number"),
        ({"eta": "soon"}, TypeError, "datetime"),
        ({"eta": 3}, TypeError, "datetime"),
        ({"priority": 10}, ValueError, "0 to 9"),
        ({"priority": True}, ValueError, "0 to 9"),
        ({"task_id": 3}, TypeError, "task_id"),
        ({"task_id": ""}, TypeError, "task_id"),
        ({"time_limit": 0}, ValueError, "time_limit"),
        ({"soft_time_limit": "1"}, TypeError, "soft_time_limit"),
    ],
    ids=str,
)
def test_what_is_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fields(**options)


@pytest.mark.parametrize("args", ["ab", b"ab", {"a": 1}, 3], ids=str)
def test_arguments_that_are_no_list(args: Any) -> None:
    with pytest.raises(TypeError, match="args of task `t`"):
        to_args("t", args)


def test_arguments() -> None:
    assert to_args("t", None) == ()
    assert to_args("t", iter([1, 2])) == (1, 2)
    assert to_kwargs("t", None) == {}
    for kwargs in ([1], "x", {1: 2}):
        with pytest.raises(TypeError, match="kwargs of task `t`"):
            to_kwargs("t", kwargs)


def test_the_headers_of_the_protocol_are_those_of_the_core() -> None:
    assert names_in_core("PROTOCOL") == PROTOCOL_HEADERS


def test_stamps_come_as_options_or_as_headers() -> None:
    stamped = {"stamped_headers": ["a"], "stamps": {"a": 1}}
    assert fields(stamped_headers=["a"], a=1) == stamped
    assert fields(headers={**stamped, "own": 2}) == {**stamped, "headers": {"own": 2}}
