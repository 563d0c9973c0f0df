import abc

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task, chain, chord, group, shared_task
from celery.utils.log import get_task_logger

from plain.celery import app

logger = get_task_logger(__name__)


class Base(Task, abc.ABC):
    abstract = True
    autoretry_for = (ConnectionError,)
    retry_backoff = False
    default_retry_delay = 0
    max_retries = 2
    _cache = None

    @property
    def cache(self):
        if self._cache is None:
            self._cache = {}
        return self._cache

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        logger.error("%s failed: %r", task_id, exc)
        super().on_failure(exc, task_id, args, kwargs, einfo)


class Report(Base):
    name = "plain.report"

    def run(self, *pieces, **options):
        self.cache[len(self.cache)] = pieces
        return "%s by %s" % (" ".join(pieces), options.get("author", "nobody"))


report = app.register_task(Report())


@app.task(base=Base, bind=True, team="sales")
def flaky(self, times):
    if self.request.retries < times:
        raise ConnectionError("try %d" % self.request.retries)
    return self.request.retries, self.team


@shared_task(trail=True)
def add(x, y):
    return x + y


@shared_task
def total(numbers):
    return sum(numbers)


@app.task(soft_time_limit=0.2, acks_late=True)
def slow():
    import time

    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return "stopped"


def workflow():
    return chain(add.s(1, 2), add.s(10)) | group(add.s(n) for n in range(3)) | total.s()


def header():
    return chord([add.s(n, n) for n in range(4)], total.s())
