"""A package as its authors wrote it for Celery: `celeryconfig.py` and tasks that are classes."""
