"""Old names of settings in a module's source."""

import pytest

from taskcore.config.upgrade import upgraded


@pytest.mark.parametrize(
    ("before", "after", "django"),
    [
        ("BROKER_URL = 'a'\n", "broker_url = 'a'\n", "CELERY_BROKER_URL = 'a'\n"),
        (
            "CELERYD_CONCURRENCY=4 # CELERYD_CONCURRENCY\n",
            "worker_concurrency=4 # CELERYD_CONCURRENCY\n",
            "CELERY_WORKER_CONCURRENCY=4 # CELERYD_CONCURRENCY\n",
        ),
        (
            "if 1:\n    BROKER_URL = 'é'; CELERY_RESULT_BACKEND = BROKER_URL\n",
            "if 1:\n    broker_url = 'é'; result_backend = broker_url\n",
            "if 1:\n    CELERY_BROKER_URL = 'é'; CELERY_RESULT_BACKEND = CELERY_BROKER_URL\n",
        ),
        (
            "a = '\x0c\u2028'\nBROKER_URL = 1\n",
            "a = '\x0c\u2028'\nbroker_url = 1\n",
            "a = '\x0c\u2028'\nCELERY_BROKER_URL = 1\n",
        ),
        ("DEBUG = True\r\n", "DEBUG = True\r\n", "DEBUG = True\r\n"),
        ("import x\ny = x.BROKER_URL\n", "import x\ny = x.BROKER_URL\n", None),
        ("def f():\n    BROKER_URL = 1\n", "def f():\n    BROKER_URL = 1\n", None),
        ("broker_url = 'a'\n", "broker_url = 'a'\n", "broker_url = 'a'\n"),
    ],
)
def test_a_module(before: str, after: str, django: str | None) -> None:
    assert upgraded(before) == after
    assert upgraded(before, "CELERY_") == (before if django is None else django)
    assert upgraded(after) == after
