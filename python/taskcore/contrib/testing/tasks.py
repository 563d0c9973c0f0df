"""The task by which `start_worker` sees that a worker works."""

from taskcore.app import shared_task


@shared_task(name="celery.ping")
def ping() -> str:
    """Answers `pong`."""
    return "pong"
