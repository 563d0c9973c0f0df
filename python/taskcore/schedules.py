"""Celery's module of schedules, of which this version has none; importing one says what to do instead."""

from typing import NoReturn

from taskcore import unsupported


def __getattr__(name: str) -> NoReturn:
    raise unsupported.import_error(__name__, name)
