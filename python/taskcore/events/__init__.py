"""Events: what workers and clients tell monitors, sent, received and kept, under Celery's names.

The core writes and sends the events of a worker. Here is what programs do with them: a dispatcher
sends events of a program's own, a receiver hands all to handlers, a state keeps what they say about
workers and tasks, a camera looks at it now and then.
"""

from taskcore.events.dispatcher import EventDispatcher
from taskcore.events.event import Event, event_exchange, get_exchange, group_from
from taskcore.events.receiver import EventReceiver

__all__ = [
    "Event",
    "EventDispatcher",
    "EventReceiver",
    "event_exchange",
    "get_exchange",
    "group_from",
]
