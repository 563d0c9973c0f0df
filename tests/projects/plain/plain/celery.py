from celery import Celery
from celery.signals import after_task_publish, task_received, worker_ready
from celery.utils.log import get_task_logger

logger = get_task_logger(__name__)

app = Celery("plain")
app.config_from_object("celeryconfig")


@worker_ready.connect
def ready(sender=None, **kwargs):
    logger.warning("consuming as %s", sender.hostname)


@task_received.connect
def received(request=None, **kwargs):
    logger.info("received")


@after_task_publish.connect(sender="plain.tasks.add")
def published(sender=None, headers=None, **kwargs):
    published.seen.append(headers["id"])


published.seen = []
