from celery import shared_task
from django.core.cache import cache
from django.db import transaction
from mail.tasks import receipt

from shop.models import Order


@shared_task(bind=True, acks_late=True)
def pay(self, order_id):
    with transaction.atomic():
        order = Order.objects.select_for_update().get(pk=order_id)
        order.paid = True
        order.save()
        receipt.delay_on_commit(order_id)
    return f"{order.title} at {self.request.retries}"


@shared_task
def last():
    return cache.get("last")
