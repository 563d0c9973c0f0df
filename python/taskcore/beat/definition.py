"""What an entry says, as text in the broker's store.

An entry of the code (`beat_schedule`) is there to be looked at; the code is what counts. One that
was added while beats run is made from its text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from taskcore.beat.entry import ScheduleEntry
from taskcore.schedules import crontab, schedule, solar

_CRONTAB = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


def schedule_as_json(when: Any) -> dict[str, Any]:
    """A schedule of one of the built-in classes; of any other only what it is called."""
    if type(when) is schedule:
        made = {"every": when.run_every.total_seconds()}
        return {**made, "relative": True} if when.relative else made
    if type(when) is crontab:
        fields = [getattr(when, f"_orig_{name}") for name in _CRONTAB]
        fields = [field if isinstance(field, (int, str)) else sorted(field) for field in fields]
        return {"crontab": fields, **({"tz": str(when._tz)} if when._tz is not None else {})}
    if type(when) is solar:
        return {"solar": [when.event, when.lat, when.lon]}
    return {"class": repr(when)}


def schedule_from_json(said: Mapping[str, Any]) -> Any:
    """The schedule that this says.

    Raises:
        ValueError: it says none that can be made.
    """
    if "every" in said:
        return schedule(timedelta(seconds=said["every"]), bool(said.get("relative")))
    if "crontab" in said:
        minute, hour, day_of_month, month_of_year, day_of_week = said["crontab"]
        return crontab(minute, hour, day_of_week, day_of_month, month_of_year, tz=said.get("tz"))
    if "solar" in said:
        return solar(*said["solar"])
    raise ValueError(
        f"schedule `{said}` cannot be made from text: expected every, crontab or solar"
    )


def dump(entry: Any, code: bool) -> str:
    """An entry as text.

    Args:
        code: it stands in the code.
    Raises:
        TypeError: it does not, and cannot be written as JSON.
    """
    said = {
        "task": entry.task,
        "schedule": schedule_as_json(entry.schedule),
        "args": list(entry.args or ()),
        "kwargs": dict(entry.kwargs or {}),
        "options": dict(entry.options or {}),
        "missed": entry.missed,
        "jitter": entry.jitter,
        "code": code,
    }
    try:
        return json.dumps(said, default=repr if code else _refuse, sort_keys=True)
    except (TypeError, ValueError):
        if not code:
            raise
        shown = {key: repr(said[key]) for key in ("args", "kwargs", "options")}
        return json.dumps({**said, **shown}, default=repr, sort_keys=True)


def load(text: str) -> dict[str, Any]:
    """What an entry says."""
    said: dict[str, Any] = json.loads(text)
    return said


def make(app: Any, name: str, said: Mapping[str, Any]) -> ScheduleEntry:
    """The entry that was added with this text.

    Raises:
        ValueError: its schedule is none.
    """
    return ScheduleEntry(
        name=name,
        task=said["task"],
        schedule=schedule_from_json(said["schedule"]),
        args=tuple(said["args"]),
        kwargs=said["kwargs"],
        options=said["options"],
        missed=said["missed"],
        jitter=said["jitter"],
        app=app,
    )


def _refuse(value: object) -> None:
    raise TypeError(
        f"`{value!r}` cannot be kept in the broker's store: expected what JSON can say; put the entry into "
        "`beat_schedule` instead"
    )
