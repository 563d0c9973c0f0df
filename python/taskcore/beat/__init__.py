"""Beat: sends periodic tasks when they are due.

`StoreScheduler`, the default, keeps the entries in the broker's store: any number of beats may run,
and each due time is sent once. `Scheduler`, `ScheduleEntry` and `PersistentScheduler` have Celery's
interface, for schedulers of other packages. `Entries` is for looking after the entries while a beat
runs.
"""

from taskcore.beat.entries import Entries
from taskcore.beat.entry import BeatLazyFunc, ScheduleEntry
from taskcore.beat.persistent import PersistentScheduler
from taskcore.beat.scheduler import DEFAULT_MAX_INTERVAL, Scheduler, SchedulingError, event_t
from taskcore.beat.service import EmbeddedService, Service
from taskcore.beat.store import StoreScheduler

__all__ = [
    "DEFAULT_MAX_INTERVAL",
    "BeatLazyFunc",
    "EmbeddedService",
    "Entries",
    "PersistentScheduler",
    "ScheduleEntry",
    "Scheduler",
    "SchedulingError",
    "Service",
    "StoreScheduler",
    "event_t",
]
