"""What the web process of the project does; it prints what came back."""

from celery.result import AsyncResult
from plain import tasks
from plain.celery import app, published

print(tasks.report.delay("a", "b", author="me").get(timeout=30))
print(list(tasks.flaky.delay(2).get(timeout=30)))
print(tasks.workflow().delay().get(timeout=30), tasks.header().delay().get(timeout=30))
print(tasks.slow.delay().get(timeout=30))
sent = tasks.add.apply_async((1,), {"y": 4}, countdown=0.1, headers={"tenant": "x"})
print(AsyncResult(sent.id, app=app).get(timeout=30), published.seen[-1] == sent.id)
print(app.conf.REPORTS_FOLDER, app.conf.timezone)
