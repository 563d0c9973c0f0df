"""An app and a worker for tests, in the process of the tests, under Celery's names."""
