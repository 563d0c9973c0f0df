"""What a view of the site does; it prints what came back."""

import os
import time

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_proj.settings")
django.setup()

from django.core.management import call_command  # noqa: E402

call_command("migrate", verbosity=0, run_syncdb=True)

from celery import current_app  # noqa: E402
from shop.models import Order  # noqa: E402
from shop.tasks import last, pay  # noqa: E402

order = Order.objects.create(title="a bicycle")
print(pay.delay(order.pk).get(timeout=30), Order.objects.get(pk=order.pk).paid)
for _ in range(300):
    if os.path.exists(os.environ["SITE_MAILBOX"]) and os.path.getsize(os.environ["SITE_MAILBOX"]):
        break
    time.sleep(0.1)
print(open(os.environ["SITE_MAILBOX"]).read().strip())
print(
    last.delay().get(timeout=30)
    in ("shop.tasks.pay", "mail.tasks.receipt", "shop.tasks.last", None)
)
print(current_app.main, current_app.conf.task_time_limit == 1800)
