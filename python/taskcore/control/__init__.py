"""Remote control: asking and telling a fleet of workers, in Celery's words."""
