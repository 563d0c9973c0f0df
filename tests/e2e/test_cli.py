"""What the commands print, and how a wrong command line is answered."""

import json
import re
from pathlib import Path

import pytest

from support.process import TASKCORE, run
from support.redis_server import RedisServer, free_port
from support.site import Site

WAIT = 30


def app_file(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


APP = "from taskcore import Taskcore\n{name} = Taskcore('found-{name}', broker='memory://')\n"


def test_the_banner_says_what_was_started(redis_site: Site) -> None:
    redis_site.broker = redis_site.broker.replace("redis://", "redis://default:hidden@")
    worker = redis_site.worker(
        "-c", "2", "-Q", "one,two", "-n", "me@%h", "-l", "warning", ready=False
    )
    # The server has no password: it refuses or ignores this one; the banner hides it either way.
    worker.wait_for("(?i)sample.add|auth|password")
    assert "hidden" not in worker.output


def test_the_banner_lists_everything(site: Site) -> None:
    worker = site.worker("-c", "2", "-Q", "one,two", "-n", "me@%h")
    text = worker.output
    assert re.search(r"me@\S+", text)
    assert re.search(r"concurrency\s+2 \(prefork\)", text)
    assert re.search(r"queues\s+one, two", text)
    assert "sample.add" in text and "sample.try_until" in text
    assert site.broker.split("://")[0] in text


def test_no_banner_when_quiet(sqlite_site: Site) -> None:
    worker = sqlite_site.worker("-c", "1", "-q")
    assert "sample.add" not in worker.output


def test_a_line_per_task_received_and_finished_at_info(site: Site) -> None:
    worker = site.worker("-c", "1", "-l", "info")
    done = site.task("add").delay(1, 1)
    failed = site.task("fail").delay("on purpose")
    worker.wait_for(f"(?i)received.*{done.id}|{done.id}.*received")
    worker.wait_for(f"(?i)succeeded.*{done.id}|{done.id}.*succeeded")
    worker.wait_for(f"(?i)(failed|raised).*{failed.id}|{failed.id}.*(failed|raised)")


def test_nothing_but_the_banner_at_warning(sqlite_site: Site) -> None:
    worker = sqlite_site.worker("-c", "1", "-l", "warning")
    result = sqlite_site.task("add").delay(1, 1)
    assert result.get(timeout=WAIT) == 2
    assert result.id not in worker.output


def test_a_log_file_takes_the_log(sqlite_site: Site) -> None:
    from support.wait import until

    path = sqlite_site.folder / "worker.log"
    worker = sqlite_site.worker("-c", "1", "-f", str(path), ready=False)
    until(lambda: path.exists() and "ready" in path.read_text(), "the log file to say ready")
    result = sqlite_site.task("add").delay(1, 1)
    assert result.get(timeout=WAIT) == 2
    until(lambda: result.id in path.read_text(), "the task in the log file")
    assert result.id not in worker.output


def test_call_and_result(site: Site) -> None:
    site.worker()
    task_id = site.cli("call", "sample.add", "-a", "[40]", "-k", '{"y": 2}').strip()
    assert site.cli("result", task_id).strip() == "42"
    task_id = site.cli("call", "sample.fail", "-a", '["on purpose"]').strip()
    assert site.cli("result", task_id, code=1).strip() == "ValueError: on purpose"
    assert "in fail" in site.cli("result", task_id, "--traceback", code=1)


def test_call_takes_the_options_of_apply_async(site: Site) -> None:
    site.cli(
        "call",
        "sample.add",
        "-a",
        "[1]",
        "--queue",
        "far",
        "--countdown",
        "3600",
        "--priority",
        "3",
    )
    site.cli(
        "call",
        "sample.add",
        "-a",
        "[1]",
        "--queue",
        "far",
        "--eta",
        "2100-01-01T00:00:00Z",
        "--serializer",
        "json",
    )
    site.cli("call", "sample.add", "-a", "[1]", "--queue", "far", "--expires", "60")
    assert site.queue("far") == {
        "queue": "far",
        "depth": 1,
        "in_flight": 0,
        "scheduled": 2,
        "dead": 0,
    }


def test_result_ends_with_its_timeout(site: Site) -> None:
    text = site.cli("result", "nobody-knows-it", "--timeout", "0.1", code=1)
    assert "nobody-knows-it" in text and "PENDING" in text and "Traceback" not in text


def test_queues_as_a_table_and_as_json(site: Site) -> None:
    site.task("add").apply_many([(n,) for n in range(3)])
    site.task("add").apply_async((1,), countdown=3600)
    table = site.cli("queues")
    assert re.search(r"^queue\s+depth\s+in flight\s+scheduled\s+dead$", table, re.MULTILINE)
    assert re.search(r"^taskcore\s+3\s+0\s+1\s+0$", table, re.MULTILINE)
    rows = json.loads(site.cli("queues", "--json"))
    assert rows == [{"queue": "taskcore", "depth": 3, "in_flight": 0, "scheduled": 1, "dead": 0}]


def test_purge_drops_what_waits(site: Site) -> None:
    site.task("add").apply_many([(n,) for n in range(5)])
    site.task("add").apply_async((1,), countdown=3600)
    site.task("add").apply_async((1,), queue="other")
    assert "Aborted" in site.cli("purge", code=1)
    assert site.queue()["depth"] == 5
    assert "purged 6 messages" in site.cli("purge", "-f")
    assert site.queue()["depth"] == site.queue()["scheduled"] == 0
    assert "purged 1 messages" in site.cli("purge", "-f", "-Q", "other")


def test_purge_takes_the_queues_of_the_app(sqlite_site: Site) -> None:
    text = "import sample\napp = sample.make(task_queues=['one', 'two'])\n"
    app_file(sqlite_site.folder, "several.py", text)
    for queue in ("one", "two", "taskcore"):
        sqlite_site.task("add").apply_async((1,), queue=queue)
    where = ["-A", "several", *sqlite_site.globals_]
    text = run(*where, "purge", "-f", cwd=sqlite_site.folder, env=sqlite_site.env)
    assert "purged 2 messages from `one`, `two`" in text


def test_dead_letters_are_listed_and_dropped(site: Site) -> None:
    site.worker("-c", "1")
    site.app.send_task("sample.nobody", args=("remember me",))
    site.wait_queue(dead=1)
    listed = json.loads(site.cli("dead", "list", "taskcore", "--json"))
    assert len(listed) == 1
    assert "sample.nobody" in listed[0]["reason"] and "remember me" in listed[0]["raw"]
    for word in ("replay", "drop"):
        force = ["-f"] if word == "drop" else []
        text = site.cli("dead", word, "taskcore", "wrongkey", *force, code=1)
        assert "only 0 of 1 keys are dead letters of `taskcore`" in text
        assert "first column of `dead list taskcore`" in text
    assert "dropped 1" in site.cli("dead", "drop", "taskcore", listed[0]["key"], "-f")
    assert site.queue()["dead"] == 0
    assert "no dead letters" in site.cli("dead", "list", "taskcore")


@pytest.mark.parametrize(
    ("files", "spec", "found"),
    [
        ({"proj.py": "app"}, "proj", "found-app"),
        ({"proj.py": "celery"}, "proj", "found-celery"),
        ({"proj.py": "whatever"}, "proj", "found-whatever"),
        ({"proj.py": "whatever"}, "proj:whatever", "found-whatever"),
        ({"proj.py": "whatever"}, "proj.whatever", "found-whatever"),
        ({"proj/__init__.py": "", "proj/celery.py": "app"}, "proj", "found-app"),
        ({"proj/__init__.py": "", "proj/celery.py": "app"}, "proj.celery", "found-app"),
        ({"proj/__init__.py": "", "proj/deep.py": "queue"}, "proj.deep:queue", "found-queue"),
    ],
    ids=str,
)
def test_the_app_is_found(tmp_path: Path, files: dict[str, str], spec: str, found: str) -> None:
    for name, attribute in files.items():
        app_file(tmp_path, name, APP.format(name=attribute) if attribute else "")
    code = (
        "from taskcore.cli.find_app import find_app; import sys; print(find_app(sys.argv[1]).main)"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code, spec],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == found, done.stderr


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nowhere", ["no module named `nowhere`"]),
        ("proj.nowhere", ["no module named `proj.nowhere`"]),
        ("proj:nothing", ["`proj`", "no attribute `nothing`", "it has the app `proj:app`"]),
        ("empty:app", ["no attribute `app`", "no app at all"]),
        ("./proj", ["not the name of a module", "`-A proj`"]),
        ("../elsewhere/proj.py", ["not the name of a module", "`-A proj`"]),
        ("proj.py", ["not the name of a module", "`-A proj`"]),
        ("proj:number", ["`proj:number`", "not an app"]),
        ("empty", ["no app in `empty`"]),
        ("proj:", ["`proj:`", "`module:attribute`"]),
    ],
)
def test_an_app_that_is_not_there_is_one_sentence(
    tmp_path: Path, spec: str, words: list[str]
) -> None:
    app_file(tmp_path, "proj.py", APP.format(name="app") + "number = 7\n")
    app_file(tmp_path, "empty.py", "")
    text = run("-A", spec, "queues", cwd=tmp_path, code=2)
    assert all(word in text for word in words), text
    assert "Traceback" not in text


def test_an_error_inside_the_app_keeps_its_traceback(tmp_path: Path) -> None:
    app_file(tmp_path, "broken.py", "import not_installed_here\n")
    text = run("-A", "broken", "queues", cwd=tmp_path, code=1)
    assert "Traceback" in text and "not_installed_here" in text and "broken.py" in text
    assert "importlib" not in text and "find.py" not in text, "the way there is not the user's"
    app_file(tmp_path, "wrong.py", "1 / 0\n")
    assert "ZeroDivisionError" in run("-A", "wrong", "queues", cwd=tmp_path, code=1)
    app_file(tmp_path, "unreadable.py", "def (\n")
    text = run("-A", "unreadable", "queues", cwd=tmp_path, code=1)
    assert "SyntaxError" in text and "unreadable.py" in text and "importlib" not in text


def test_an_error_inside_a_module_of_tasks_keeps_its_traceback(tmp_path: Path) -> None:
    app_file(tmp_path, "proj.py", APP.format(name="app") + "app.conf.include = ['tasks']\n")
    app_file(tmp_path, "tasks.py", "1 / 0\n")
    text = run("-A", "proj", "worker", cwd=tmp_path, code=1)
    assert "ZeroDivisionError" in text and "tasks.py" in text and "click" not in text


def test_dead_letters_are_shown_with_their_task(site: Site) -> None:
    site.worker("-c", "1")
    site.app.send_task("sample.nobody", task_id="the-id")
    site.wait_queue(dead=1)
    assert "sample.nobody[the-id]" in site.cli("dead", "list", "taskcore")


def test_queue_names_do_not_shape_the_table(site: Site) -> None:
    for name in ("a\nb", "q" * 1000):
        site.task("add").apply_async((1,), queue=name)
    lines = site.cli("queues").splitlines()
    assert any(line.startswith("a\\nb ") for line in lines), lines
    assert max(map(len, lines)) < 150


def test_a_log_file_that_cannot_be_written_is_one_sentence(sqlite_site: Site) -> None:
    path = sqlite_site.folder / "nowhere" / "worker.log"
    worker = sqlite_site.worker("-f", str(path), ready=False)
    assert worker.wait() == 1
    assert f"`{path}`" in worker.output and "Traceback" not in worker.output


def test_ready_is_said_once(sqlite_site: Site) -> None:
    for level in ("info", "warning"):
        worker = sqlite_site.worker("-c", "1", "-l", level)
        assert sqlite_site.task("add").delay(1, 1).get(timeout=WAIT) == 2
        assert worker.stop() == 0
        assert worker.output.count(" ready") == 1, worker.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["queues"], "no app given"),
        (["-A", "sample", "call", "x", "-a", "{1}"], "not JSON"),
        (["-A", "sample", "call", "x", "-a", "{}"], "JSON list"),
        (["-A", "sample", "call", "x", "-k", "[]"], "JSON object"),
        (["-A", "sample", "call", "x", "--eta", "soon"], "ISO 8601"),
        (["-A", "sample", "call", "x", "--priority", "10"], "0<=x<=9"),
        (["-A", "sample", "worker", "-P", "forked"], "prefork"),
        (["-A", "sample", "worker", "-P", "eventlet"], "-P threads"),
        (["-A", "sample", "worker", "-c", "0"], "x>=1"),
        (["-A", "sample", "worker", "--time-limit", "0"], "x>0"),
        (["-A", "sample", "worker", "-l", "loud"], "warning"),
        (["-A", "sample", "wurker"], "wurker"),
        (["worker", "-A", "sample"], "`taskcore -A ... worker`"),
        (["-A", "sample", "worker", "-Q", ","], "names nothing"),
        (["-A", "sample", "worker", "-n", ""], "empty"),
        (["-A", "sample", "purge", "-f", "-Q", ""], "names nothing"),
        (["-A", "sample", "queues", "-Q", " , "], "names nothing"),
        (["-A", "sample", "result", ""], "empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_command_line_is_one_sentence(
    sqlite_site: Site, words: list[str], expected: str
) -> None:
    text = run(*words, cwd=sqlite_site.folder, env=sqlite_site.env, code=2)
    assert expected in text and "Traceback" not in text


@pytest.mark.parametrize(
    "words", [["call", "sample.add"], ["queues"], ["purge", "-f"]], ids=" ".join
)
def test_a_broker_that_is_down_is_one_sentence(sqlite_site: Site, words: list[str]) -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    text = run(
        "-A", "sample", "-b", url, *words, cwd=sqlite_site.folder, env=sqlite_site.env, code=1
    )
    assert text.startswith("Error: ") and "Traceback" not in text and "secret" not in text


def test_a_malformed_broker_url_is_one_sentence(sqlite_site: Site) -> None:
    text = run(
        "-A",
        "sample",
        "-b",
        "redsi://x",
        "queues",
        cwd=sqlite_site.folder,
        env=sqlite_site.env,
        code=None,
    )
    assert "redsi" in text and "Traceback" not in text


def test_the_module_is_the_command(tmp_path: Path) -> None:
    import subprocess
    import sys

    version = run("--version", cwd=tmp_path)
    assert re.match(r"taskcore, version \d+\.\d+", version)
    done = subprocess.run(
        [sys.executable, "-m", "taskcore", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == version
    assert Path(TASKCORE).exists()


@pytest.mark.parametrize("command", ["worker", "call", "result", "queues", "purge", "dead"])
def test_help_needs_no_app(tmp_path: Path, command: str) -> None:
    assert "Usage: taskcore" in run(command, "--help", cwd=tmp_path)
    assert command in run("--help", cwd=tmp_path)


def test_options_that_turn_off_what_is_not_there_are_taken(sqlite_site: Site) -> None:
    without = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-O", "fair")
    worker = sqlite_site.worker("-c", "1", "-P", "processes", *without)
    assert "concurrency  1 (prefork)" in worker.output


@pytest.mark.parametrize("words", [["queues"], ["purge", "-f"], ["dead", "list", "q"]])
def test_a_mistyped_path_makes_no_database(sqlite_site: Site, words: list[str]) -> None:
    where = ["-b", "sqlite:///mistyped.db", "--result-backend", "sqlite:///mistyped.db"]
    text = run("-A", "sample", *where, *words, cwd=sqlite_site.folder, env=sqlite_site.env, code=1)
    path = sqlite_site.folder / "mistyped.db"
    assert f"there is no database `{path}`" in text
    assert not path.exists()


def test_the_banner_says_where_the_database_is(sqlite_site: Site) -> None:
    sqlite_site.broker = sqlite_site.results = "sqlite:///relative.db"
    worker = sqlite_site.worker("-c", "1", "-l", "warning")
    assert f"broker       sqlite:///{sqlite_site.folder}/relative.db" in worker.output
    assert f"results      sqlite:///{sqlite_site.folder}/relative.db" in worker.output


def test_a_call_of_a_known_task_is_checked_and_has_its_options(sqlite_site: Site) -> None:
    text = "import sample\napp = sample.make()\napp.task(sample.log, name='own', queue='own')\n"
    app_file(sqlite_site.folder, "proj.py", text)
    where = ["-A", "proj", *sqlite_site.globals_, "call"]
    wrong = run(*where, "own", "-a", "[1, 2]", cwd=sqlite_site.folder, env=sqlite_site.env, code=1)
    assert (
        wrong.startswith("Error: ") and "takes 1 positional" in wrong and "Traceback" not in wrong
    )
    run(*where, "own", "-a", "[1]", cwd=sqlite_site.folder, env=sqlite_site.env)
    assert sqlite_site.queue("own")["depth"] == 1
    text = run(*where, "onw", "-a", "[1]", cwd=sqlite_site.folder, env=sqlite_site.env)
    assert "`onw` is no task of this app, did you mean `own`?" in text


def test_an_outage_is_said_again_with_its_reason(sqlite_site: Site) -> None:
    folder = sqlite_site.folder / "redis"
    folder.mkdir()
    server = RedisServer(folder, "--requirepass", "secret")
    sqlite_site.broker = server.url(0)
    worker = sqlite_site.worker("-c", "1", "-l", "warning", ready=False)
    worker.wait_for("the broker is away.*refused")
    worker.wait_for(r"the broker is still away attempt=\d+ .*refused")
    server.start()
    try:
        worker.wait_for(r"the broker is still away attempt=\d+ .*password")
    finally:
        server.stop()
    sqlite_site.broker = "redis://no-such-host.invalid/0"
    worker = sqlite_site.worker("-c", "1", "-l", "warning", ready=False)
    worker.wait_for("the broker is away.*lookup")


def test_what_a_child_did_is_logged_with_its_name(sqlite_site: Site) -> None:
    worker = sqlite_site.worker("-c", "1", "-l", "info")
    done = sqlite_site.task("pid").delay()
    pid = done.get(timeout=WAIT)
    failed = sqlite_site.task("fail").delay("on purpose")
    killed = sqlite_site.task("hard_limited").delay(60)
    worker.wait_for(rf"INFO/Child-{pid}\] Task sample.pid\[{done.id}\] succeeded")
    worker.wait_for(rf"ERROR/Child-{pid}\] Task sample.fail\[{failed.id}\] raised")
    worker.wait_for(rf"ERROR/Child-{pid}\] Task sample.hard_limited\[{killed.id}\] was killed")
    worker.wait_for(rf"INFO/MainProcess\] Task sample.pid\[{done.id}\] received")


def test_two_workers_of_one_name_are_warned_about_and_a_restarted_one_is_not(site: Site) -> None:
    site.worker("-n", "restarted").kill()
    restarted = site.worker("-n", "restarted")
    site.worker("-n", "twin")
    site.worker("-n", "twin").wait_for("another worker has the same name")
    assert "the same name" not in restarted.output  # which looked before
