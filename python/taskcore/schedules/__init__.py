"""When periodic tasks are due: every so often, by crontab, by the sun, or by a class of your own."""

from taskcore.schedules.base import BaseSchedule, schedstate
from taskcore.schedules.crontab import ParseException, crontab, crontab_parser
from taskcore.schedules.interval import maybe_schedule, schedule
from taskcore.schedules.solar import solar

__all__ = [
    "BaseSchedule",
    "ParseException",
    "crontab",
    "crontab_parser",
    "maybe_schedule",
    "schedstate",
    "schedule",
    "solar",
]
