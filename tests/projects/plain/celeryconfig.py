import os

broker_url = os.environ["PLAIN_BROKER"]
result_backend = os.environ["PLAIN_RESULTS"]
CELERY_IMPORTS = ("plain.tasks",)
task_serializer = "json"
accept_content = ["json"]
task_track_started = True
task_annotations = {"plain.tasks.add": {"rate_limit": "1000/s"}}
worker_max_tasks_per_child = 100
result_expires = 3600
timezone = "Europe/Oslo"
REPORTS_FOLDER = "/tmp/reports"
