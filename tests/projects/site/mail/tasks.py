import os

from celery import shared_task
from django.apps import apps
from django.utils import timezone


@shared_task
def receipt(order_id):
    order = apps.get_model("shop", "Order").objects.get(pk=order_id)
    with open(os.environ["SITE_MAILBOX"], "a") as mailbox:
        mailbox.write(f"{order.title} {order.paid} {timezone.get_current_timezone_name()}\n")
