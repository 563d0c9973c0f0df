"""Options of the program and of `worker` that the scripts of moved projects use."""

import re

from support.process import Worker, run
from support.site import Site

WAIT = 30


def test_purge_drops_what_waits_in_the_workers_queues(site: Site) -> None:
    add = site.task("add")
    add.apply_many([(n,) for n in range(3)])
    add.apply_async((1,), countdown=3600)
    add.apply_async((1,), queue="other")
    site.worker("-c", "1", "--purge").wait_for("purged 4 messages from `taskcore`")
    assert site.queue()["scheduled"] == 0 and site.queue("other")["depth"] == 1
    assert add.delay(40, 2).get(timeout=WAIT) == 42


def test_modules_are_included(sqlite_site: Site) -> None:
    text = "from sample import app\n@app.task\ndef more():\n    return 'more'\n"
    (sqlite_site.folder / "extra.py").write_text(text)
    sqlite_site.worker("-c", "1", "-I", "extra")
    assert sqlite_site.app.send_task("extra.more").get(timeout=WAIT) == "more"


def test_an_excluded_queue_is_not_served(sqlite_site: Site) -> None:
    worker = sqlite_site.worker("-c", "1", "-Q", "one,two,three", "-X", "two")
    assert re.search(r"queues\s+one, three$", worker.output, re.MULTILINE)


def test_a_pidfile_is_of_one_worker(sqlite_site: Site) -> None:
    path = sqlite_site.folder / "w1.pid"
    worker = sqlite_site.worker("-c", "1", "-n", "w1@here", "--pidfile", "%n.pid")
    assert path.read_text() == f"{worker.pid}\n"
    second = sqlite_site.worker("-c", "1", "--pidfile", str(path), ready=False)
    assert second.wait() == 1
    assert "is of a process that runs" in second.output and "Traceback" not in second.output
    assert worker.stop() == 0
    assert not path.exists()

    path.write_text("999999999\n")
    third = sqlite_site.worker("-c", "1", "--pidfile", str(path))
    third.wait_for("has ended: taken over")
    assert path.read_text() == f"{third.pid}\n"


def test_settings_on_the_command_line(sqlite_site: Site) -> None:
    words = ["--", ".concurrency=3", "task.default_queue=chosen"]
    env = {"SAMPLE_NO_HARD_LIMITS": "1"}
    worker = sqlite_site.worker("-P", "threads", "-l", "info", *words, env=env)
    assert re.search(r"concurrency\s+3 \(threads\)", worker.output)
    assert re.search(r"queues\s+chosen$", worker.output, re.MULTILINE)


def test_a_wrong_setting_on_the_command_line_is_one_sentence(sqlite_site: Site) -> None:
    for word, said in [
        ("concurrency", "`concurrency` is no setting"),
        ("worker_concurency=3", "did you mean `worker_concurrency`"),
    ]:
        text = sqlite_site.cli("worker", "--", word, code=2)
        assert said in text and "Traceback" not in text


def test_the_program_changes_into_a_folder_and_takes_a_module_of_settings(
    sqlite_site: Site,
) -> None:
    inner = sqlite_site.folder / "inner"
    inner.mkdir()
    (inner / "moved.py").write_text(
        "from taskcore import Celery\napp = Celery('moved', config_source='old')\n"
    )
    (inner / "old.py").write_text("broker_url = 'memory://old'\ntask_default_queue = 'old'\n")
    (inner / "new.py").write_text("broker_url = 'sqlite:///new.db'\n")
    text = run(
        *("--workdir", "inner", "-A", "moved", "--config", "new", "-C", "--skip-checks", "report"),
        cwd=sqlite_site.folder,
    )
    assert "broker_url: 'sqlite:///new.db'" in text and "task_default_queue: 'old'" in text
    failed = run("--workdir", "nowhere", "report", cwd=sqlite_site.folder, code=2)
    assert "`nowhere`" in failed.replace("'", "`")


def test_quiet_in_front_of_the_command(sqlite_site: Site) -> None:
    globals_ = [*sqlite_site.globals_, "-q"]
    worker = Worker(
        "sample", "-l", "info", cwd=sqlite_site.folder, globals_=globals_, env=sqlite_site.env
    )
    sqlite_site.processes.append(worker)
    worker.ready()
    assert "concurrency" not in worker.output
