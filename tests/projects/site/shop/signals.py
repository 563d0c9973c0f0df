from celery.signals import task_postrun
from django.core.cache import cache


@task_postrun.connect
def count(sender=None, **kwargs):
    cache.set("last", sender.name)
