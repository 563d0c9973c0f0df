"""By the sun, as seen from a place."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from taskcore.exceptions import ImproperlyConfigured
from taskcore.schedules.base import BaseSchedule

_EVENTS = {
    # How high the sun stands, which of ephem's questions is asked, whether its centre is meant.
    "dawn_astronomical": ("-18", "next_rising", True),
    "dawn_nautical": ("-12", "next_rising", True),
    "dawn_civil": ("-6", "next_rising", True),
    "sunrise": ("-0:34", "next_rising", False),
    "solar_noon": ("0", "next_transit", False),
    "sunset": ("-0:34", "next_setting", False),
    "dusk_civil": ("-6", "next_setting", True),
    "dusk_nautical": ("-12", "next_setting", True),
    "dusk_astronomical": ("-18", "next_setting", True),
}

_DAYS = 366
"""How far ahead an event is looked for that does not happen every day: at the poles the sun stays
up, or down, for half a year."""


class solar(BaseSchedule):  # noqa: N801 - Celery's name
    """Due at an event of the sun. Needs the package `ephem`.

    Args:
        event: `dawn_astronomical`, `dawn_nautical`, `dawn_civil`, `sunrise`, `solar_noon`, `sunset`,
            `dusk_civil`, `dusk_nautical` or `dusk_astronomical`.
        lat: latitude in degrees, north is positive.
        lon: longitude in degrees, east is positive.
        nowfun, app: see `BaseSchedule`.
    Raises:
        ImproperlyConfigured: `ephem` is not installed.
        ValueError: no such event, or no such place.
    """

    def __init__(self, event: str, lat: float, lon: float, **kwargs: Any) -> None:
        try:
            ephem: Any = __import__("ephem")
        except ImportError as exc:
            raise ImproperlyConfigured(
                "schedules by the sun need the package `ephem`: install `taskcore[solar]`"
            ) from exc
        if event not in _EVENTS:
            raise ValueError(f"event is `{event}`: expected one of {', '.join(_EVENTS)}")
        for name, value, bound in (("lat", lat, 90), ("lon", lon, 180)):
            if not -bound <= value <= bound:
                raise ValueError(f"{name} is `{value}`: expected degrees from -{bound} to {bound}")
        self.event, self.lat, self.lon = event, lat, lon
        self.ephem = ephem
        super().__init__(**kwargs)

    def next_after(self, last_run_at: datetime) -> datetime:
        """The first such event after that."""
        height, question, centre = _EVENTS[self.event]
        observer = self.ephem.Observer()
        observer.lat, observer.lon = str(self.lat), str(self.lon)
        observer.elevation, observer.pressure, observer.horizon = 0, 0, height
        sun = self.ephem.Sun()
        start = self.ephem.Date(last_run_at.astimezone(UTC))
        options = {"use_center": True} if centre else {}
        for _ in range(_DAYS):
            try:
                start = getattr(observer, question)(sun, start=start, **options)
                break
            except self.ephem.CircumpolarError:
                start = observer.next_antitransit(sun, start=start)
        due: datetime = start.datetime()
        return due.replace(tzinfo=UTC)

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, solar):
            return NotImplemented
        return (self.event, self.lat, self.lon) == (other.event, other.lat, other.lon)

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.event, self.lat, self.lon)
