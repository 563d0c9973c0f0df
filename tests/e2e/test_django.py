"""A Django project: real Django, its tasks in real workers, and the connections to its database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.postgres import Postgres
from support.process import Worker, python
from support.wait import until

SETTINGS = """
import os
SECRET_KEY = "of a test"
INSTALLED_APPS = ["shop"]
USE_TZ = True
DATABASES = {{
    "default": {database!r},
    "other": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "other.sqlite3"}},
}}
CACHES = {{"default": {{"BACKEND": "shop.cache.Cache"}}}}
CELERY_BROKER_URL = CELERY_RESULT_BACKEND = "sqlite:///queue.db"
"""
PROJ = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
from taskcore import Taskcore
app = Taskcore("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
APPS = """
import os
from django.apps import AppConfig
class Shop(AppConfig):
    name = "shop"
    def ready(self):
        if os.environ.get("QUERY"):
            from django.db import connection
            connection.ensure_connection()
"""
CACHE = """
from django.core.cache.backends.locmem import LocMemCache
class Cache(LocMemCache):
    def close(self, **kwargs):
        with open("closed", "a") as file:
            file.write("x")
"""
TASKS = """
import os
import time
from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.db import connection
from taskcore import shared_task

def one():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]

@shared_task
def select():
    return one()

@shared_task
async def aselect():
    return await sync_to_async(one)()

@shared_task
def meet(name, count):
    one()
    with open(name, "a") as file:
        file.write(f"{os.getpid()}\\n")
    while len(set(open(name).read().split())) < count:
        time.sleep(0.01)
    return one()

@shared_task
def remember(value):
    cache.set("key", value)
    return cache.get("key")

@shared_task
def write(text):
    with open("written", "a") as file:
        file.write(text)
"""
LATE = """
from taskcore import signals

@signals.worker_init.connect
def open_one(**_):
    connection.ensure_connection()

@signals.worker_ready.connect
def ask(**_):
    assert select.delay().get(timeout=20) == 1
    print("the parent still reads", one())
"""
CLIENT = "import proj, django; django.setup(); from shop.tasks import *\n"


class Project:
    """A project in a folder, and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[Worker] = []
        files = {"proj.py": PROJ, "shop/apps.py": APPS, "shop/cache.py": CACHE}
        for name, text in {**files, "shop/tasks.py": TASKS, "shop/__init__.py": ""}.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)

    def database(self, **database: object) -> None:
        """Writes the settings."""
        (self.folder / "settings.py").write_text(SETTINGS.format(database=database))

    def worker(self, *options: str, **env: str) -> Worker:
        """Starts a worker."""
        worker = Worker("proj", *options, "-l", "info", cwd=self.folder, env=env)
        self.workers.append(worker)
        return worker.ready()

    def python(self, source: str) -> str:
        """What a client of the project prints."""
        return python(CLIENT + source, cwd=self.folder)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Without a database yet."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    made = Project(tmp_path)
    yield made
    for worker in made.workers:
        worker.kill()


@pytest.fixture
def sqlite(project: Project) -> Project:
    """On a file."""
    project.database(ENGINE="django.db.backends.sqlite3", NAME="db.sqlite3")
    return project


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A server that can end sessions."""
    made = Postgres()
    yield made
    made.drop()


def on(project: Project, postgres: Postgres, age: int | None) -> Project:
    """The project on a database of PostgreSQL, with that CONN_MAX_AGE."""
    project.database(
        ENGINE="django.db.backends.postgresql",
        NAME=postgres.name,
        HOST=postgres.host,
        PORT=postgres.port,
        USER=postgres.user,
        CONN_MAX_AGE=age,
    )
    return project


@pytest.mark.parametrize("task", ["select", "aselect"])
def test_a_child_outlives_its_lost_connection(
    project: Project, postgres: Postgres, task: str
) -> None:
    on(project, postgres, age=None).worker("-c", "1")
    assert project.python(f"print({task}.delay().get(timeout=20))") == "1\n"
    assert postgres.end_sessions() == 1
    # Without health checks one task finds out that the connection is lost; the next has another.
    project.python(f"{task}.delay().get(timeout=20, propagate=False)")
    assert project.python(f"print({task}.delay().get(timeout=20))") == "1\n"


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_an_idle_worker_keeps_no_connection_past_its_age(
    project: Project, postgres: Postgres, pool: str
) -> None:
    on(project, postgres, age=0).worker("-c", "1", "-P", pool, QUERY="1")
    until(lambda: postgres.sessions() == 0, "the connection that the start has opened to be closed")
    for task in ("select", "aselect"):
        assert project.python(f"print({task}.delay().get(timeout=20))") == "1\n"
        until(lambda: postgres.sessions() == 0, "the connection of the task to be closed")


def test_children_do_not_share_the_connection_of_their_parent(
    project: Project, postgres: Postgres
) -> None:
    on(project, postgres, age=None).worker("-c", "3", QUERY="1")
    program = """
results = [meet.delay("children", 3) for _ in range(3)]
print([result.get(timeout=20) for result in results])
"""
    assert project.python(program) == "[1, 1, 1]\n"


def test_a_connection_that_a_child_inherits_is_left_without_a_word(
    project: Project, postgres: Postgres
) -> None:
    # A receiver in a module of tasks is called after the parent has closed what was open.
    tasks = project.folder / "shop/tasks.py"
    tasks.write_text(tasks.read_text() + LATE)
    worker = on(project, postgres, age=None).worker("-c", "2")
    worker.wait_for("the parent still reads 1")


def test_caches_are_closed_after_a_task(sqlite: Project) -> None:
    sqlite.worker("-c", "1")
    before = (
        len((sqlite.folder / "closed").read_text()) if (sqlite.folder / "closed").exists() else 0
    )
    assert sqlite.python("print(remember.delay(7).get(timeout=20))") == "7\n"
    until(
        lambda: len((sqlite.folder / "closed").read_text()) > before, "the cache to be closed again"
    )


def test_an_eager_task_leaves_the_connections_of_its_caller(sqlite: Project) -> None:
    program = """
from django.db import connection
from taskcore.contrib import django
django.connect()
connection.ensure_connection()
mine = connection.connection
select.apply().get()
print(connection.connection is mine)
"""
    assert sqlite.python(program) == "True\n"


def test_a_task_is_published_when_its_transaction_is_committed(sqlite: Project) -> None:
    program = """
from django.db import transaction
sent = []
def publish(args, kwargs, task_id=None, **options):
    sent.append((args, kwargs, task_id, options))
write.apply_async = publish
with transaction.atomic():
    write.delay_on_commit("a")
    write.apply_async_on_commit(("b",), countdown=3)
    with transaction.atomic(using="other"):
        write.apply_async_on_commit(kwargs={"text": "c"}, using="other")
        print(sent)
    print(sent)
    sent.clear()
print(sent)
sent.clear()
try:
    with transaction.atomic():
        write.delay_on_commit("a")
        raise KeyError
except KeyError:
    print(sent)
write.delay_on_commit("now")
print(sent)
try:
    write.delay_on_commit()
except TypeError as exc:
    print(exc)
"""
    assert sqlite.python(program).splitlines() == [
        "[]",
        "[((), {'text': 'c'}, None, {})]",
        "[(('a',), {}, None, {}), (('b',), {}, None, {'countdown': 3})]",
        "[]",
        "[(('now',), {}, None, {})]",
        "write() missing 1 required positional argument: 'text'",
    ]


def test_publishing_on_commit_needs_django(tmp_path: Path) -> None:
    program = """
from taskcore import Taskcore
app = Taskcore("proj", broker="memory://")
task = app.task(lambda: 1, name="one")
for publish in (task.delay_on_commit, task.apply_async_on_commit):
    try:
        publish()
    except Exception as exc:
        print(type(exc).__name__, exc)
"""
    said = python(program, cwd=tmp_path, env={"DJANGO_SETTINGS_MODULE": ""})
    assert said.splitlines() == [
        "NotSupportedError `delay_on_commit` needs Django, which this program does not configure: set "
        "DJANGO_SETTINGS_MODULE, or publish after the commit by yourself",
        "NotSupportedError `apply_async_on_commit` needs Django, which this program does not configure: set "
        "DJANGO_SETTINGS_MODULE, or publish after the commit by yourself",
    ]
