"""Settings: names, types, sources and their precedence."""

import builtins
import linecache
import re
import ssl
import sys
import textwrap
import threading
import types
import warnings
import zoneinfo
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from taskcore import Taskcore
from taskcore.config import settings
from taskcore.config.conf import Config
from taskcore.config.sources import new_name
from taskcore.config.time_zone import zone
from taskcore.config.validators import rate_per_second, redact
from taskcore.exceptions import ImproperlyConfigured, SettingIgnored


def test_every_default_is_of_its_own_kind() -> None:
    from taskcore.config.names import check_value

    for setting in settings.TABLE:
        assert check_value(setting, setting.name, setting.default) == setting.default, setting.name


def test_no_name_is_in_two_lists() -> None:
    lists = [
        set(names)
        for names in (settings.BY_NAME, settings.IGNORED, settings.REFUSED, settings.OF_STORES)
    ]
    assert sum(map(len, lists)) == len(set().union(*lists))


def test_every_setting_of_celery_is_known_in_some_way() -> None:
    defaults = pytest.importorskip("celery.app.defaults")
    known = {*settings.BY_NAME, *settings.IGNORED, *settings.REFUSED, *settings.OF_STORES}
    programs = ("executable", "gid", "logfile", "pidfile", "uid", "umask")
    beside = {f"{program}_{name}" for program in ("beat", "events", "worker") for name in programs}
    beside |= {
        "cassandra_secure_bundle_path",
        "override_backends",
        "redis_backend_credential_provider",
        "redis_backend_health_check_interval",
        "redis_client_name",
        "result_backend_thread_safe",
        "gcs_threadpool_maxsize",
        "gcs_firestore_project",
    }
    assert {name for name, _ in defaults.flatten(defaults.NAMESPACES)} | beside <= known


def test_celerys_defaults_are_accepted_as_values() -> None:
    """A program that states a default of Celery's, as many do, is not refused."""
    defaults = pytest.importorskip("celery.app.defaults")
    for name, option in defaults.flatten(defaults.NAMESPACES):
        if name in settings.REFUSED:
            assert settings.REFUSED[name] == option.default or option.default is None, name


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ({"broker_ulr": "memory://"}, "broker_url"),
        ({"task_serialiser": "json"}, "task_serializer"),
        ({"CELERY_TASK_SERIALIZR": "json"}, "task_serializer"),
        ({"worker_concurency": 2}, "worker_concurrency"),
    ],
)
def test_a_slip_of_the_pen_is_warned_of_with_the_nearest(given: dict[str, Any], near: str) -> None:
    with pytest.warns(SettingIgnored, match=f"did you mean `{near}`"):
        Config().update(given)


@pytest.mark.filterwarnings("error")
def test_settings_of_ones_own_are_kept() -> None:
    conf = Config()
    conf.update(MY_THING=1, mail_sender="a@b", CELERY_EMAIL_BACKEND="smtp")
    conf.OTHER = [2]
    assert (conf.MY_THING, conf["mail_sender"], conf.get("OTHER")) == (1, "a@b", [2])
    assert conf.CELERY_EMAIL_BACKEND == "smtp" and "MY_THING" in conf
    source = types.ModuleType("celeryconfig_of_ones_own")
    source.__dict__.update(DATABASES={}, TIME_ZONE="UTC", helper=len, feature=True)
    conf.load(source)
    assert (conf.DATABASES, conf.feature, conf.get("helper")) == ({}, True, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("worker_concurrency", "2"),
        ("worker_concurrency", 0),
        ("task_acks_late", "yes"),
        ("result_expires", "1d"),
        ("result_expires", -1),
        ("task_protocol", 1),
        ("worker_pool", "gevent"),
        ("task_default_rate_limit", "10/day"),
        ("task_default_priority", 10),
        ("result_serializer", 3),
        ("result_accept_content", 3),
        ("result_compression", ["gzip"]),
        ("accept_content", 3),
        ("task_routes", {"a": {"queu": "b"}}),
        ("task_routes", [5]),
        ("task_routes", "nodots"),
        ("task_routes", {"a": 5}),
        ("task_routes", [("a", "b", "c")]),
        ("task_queues", [5]),
        ("task_queues", {"a": 5}),
        ("task_default_exchange_type", "x-delayed"),
        ("task_default_queue_type", "stream"),
        ("broker_transport_options", "x"),
    ],
)
def test_a_wrong_value_is_refused_and_nothing_is_set(name: str, value: Any) -> None:
    conf = Config()
    with pytest.raises(ImproperlyConfigured, match=name):
        conf.update({"task_ignore_result": True, name: value})
    assert conf.task_ignore_result is False


def test_values_are_kept_in_one_form() -> None:
    conf = Config()
    conf.update(
        result_expires=timedelta(minutes=1),
        include="proj.tasks",
        task_queues=["a", "b"],
        task_routes={"a.*": "low", "b": {"queue": "high", "priority": 2}},
    )
    assert conf.result_expires == 60.0
    assert conf.include == ("proj.tasks",)
    assert conf["task_queues"] == ("a", "b")
    assert conf.task_routes == {"a.*": "low", "b": {"queue": "high", "priority": 2}}


def test_results_are_written_and_read_as_the_settings_say() -> None:
    from taskcore.results.choose_encoding import to_read, to_write

    conf = Config()
    for plain in ({}, {"result_serializer": "json", "result_accept_content": ["json"]}):
        conf.update(plain)
        assert to_read(conf) is None and to_write(conf) is None
    conf.update(result_accept_content=["json", "pickle"])
    assert to_read(conf) is not None and to_write(conf) is None
    conf.update(result_serializer="application/x-yaml", result_compression="gzip")
    written = to_write(conf)
    assert written is not None
    assert (written.serializer, written.compression) == ("yaml", "gzip")


@pytest.mark.filterwarnings("error")
def test_what_chords_need_not_here_is_accepted() -> None:
    conf = Config()
    options = {"result_chord_ordered": False, "global_keyprefix": "k"}
    conf.update(
        result_chord_join_timeout=10,
        CELERY_RESULT_CHORD_RETRY_INTERVAL=2,
        result_backend_transport_options=options,
    )
    assert (conf.result_chord_join_timeout, conf.result_chord_retry_interval) == (10.0, 2.0)
    assert conf.transport_options("result_backend_transport_options") == {"global_keyprefix": "k"}


def test_old_names_are_translated() -> None:
    conf = Config()
    conf.update(CELERY_ALWAYS_EAGER=True, BROKER_URL="memory://", CELERYD_CONCURRENCY=3)
    assert (conf.task_always_eager, conf.broker_url, conf.worker_concurrency) == (
        True,
        "memory://",
        3,
    )
    assert conf["CELERYD_CONCURRENCY"] == 3


def test_two_spellings_that_disagree_are_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="twice"):
        Config().update({"CELERY_ACKS_LATE": True, "task_acks_late": False})


def test_what_is_not_supported_is_refused_unless_it_is_the_default() -> None:
    Config().update(override_backends=None, database_url=None)
    for given in ({"override_backends": {"a": "b:c"}},):
        with pytest.raises(ImproperlyConfigured, match="not supported in this version"):
            Config().update(given)


def test_settings_of_stores_that_are_not_here_are_accepted() -> None:
    conf = Config()
    with pytest.warns(SettingIgnored, match="`database_short_lived_sessions` has no effect"):
        conf.update(database_short_lived_sessions=True)
    assert conf.database_short_lived_sessions is True and conf.s3_bucket is None


@pytest.mark.parametrize(
    ("given", "broker"),
    [
        ({"broker_url": "redis://h", "broker_use_ssl": True}, "rediss://h"),
        (
            {"broker_url": "redis://h/0", "broker_use_ssl": {"ssl_ca_certs": "/a b.pem"}},
            "rediss://h/0?ssl_ca_certs=/a%20b.pem",
        ),
        (
            {
                "BROKER_URL": "amqp://h?heartbeat=3",
                "BROKER_USE_SSL": {"keyfile": "k", "cert_reqs": ssl.CERT_REQUIRED},
            },
            "amqps://h?heartbeat=3&ssl_keyfile=k&ssl_cert_reqs=required",
        ),
        (
            {"broker_url": "rediss://h", "broker_use_ssl": {"ssl_cert_reqs": 0}},
            "rediss://h?ssl_cert_reqs=none",
        ),
        ({"broker_url": ["redis://h"]}, "redis://h"),
        (
            {"BROKER_TRANSPORT": "redis", "BROKER_HOST": "h", "BROKER_PORT": 7, "BROKER_VHOST": 2},
            "redis://h:7/2",
        ),
        (
            {
                "broker_transport": "amqp",
                "broker_user": "u@x",
                "broker_password": "p/",
                "broker_vhost": "/v",
            },
            "amqp://u%40x:p%2F@localhost/v",
        ),
        ({"broker_host": "redis://h"}, "redis://h"),
        ({"broker_read_url": "redis://h", "broker_write_url": "redis://h"}, "redis://h"),
        ({"broker_url": "redis://h", "broker_read_url": "redis://h"}, "redis://h"),
    ],
)
def test_the_url_of_the_broker_is_put_together(given: dict[str, Any], broker: str) -> None:
    conf = Config()
    conf.update(given)
    assert conf.broker_url == broker


@pytest.mark.parametrize(
    ("given", "results"),
    [
        (
            {"result_backend": "redis", "redis_host": "h", "redis_port": 1, "redis_db": 3},
            "redis://h:1/3",
        ),
        ({"result_backend": "redis://", "CELERY_REDIS_PASSWORD": "p"}, "redis://:p@localhost"),
        ({"result_backend": "redis://a", "redis_host": "h"}, "redis://a"),
        (
            {"result_backend": "redis://a", "redis_backend_use_ssl": {"ssl_certfile": "c"}},
            "rediss://a?ssl_certfile=c",
        ),
    ],
)
def test_the_url_of_the_result_store_is_put_together(given: dict[str, Any], results: str) -> None:
    conf = Config()
    conf.update(given)
    assert conf.result_backend == results


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"broker_read_url": "redis://a", "broker_write_url": "redis://b"}, "two brokers"),
        ({"broker_url": "sqlite:///a", "broker_use_ssl": True}, "has no encryption"),
        ({"broker_url": "redis://a", "broker_use_ssl": {"ciphers": "x"}}, "ca_certs, certfile"),
    ],
)
def test_what_cannot_be_put_together_is_said(given: dict[str, Any], told: str) -> None:
    conf = Config()
    conf.update(given)
    with pytest.raises(ImproperlyConfigured, match=told):
        _ = conf.broker_url


def test_parameters_of_another_client_are_taken_out_of_a_url() -> None:
    conf = Config()
    with pytest.warns(SettingIgnored, match="`socket_timeout`, `protocol` in a URL"):
        conf.broker_url = "redis://h/0?socket_timeout=5&db=2&protocol=3"
    assert conf.broker_url == "redis://h/0?db=2"


def test_what_has_no_effect_is_said() -> None:
    with pytest.warns(SettingIgnored, match="broker_pool_limit"):
        Config().update(broker_pool_limit=3)


def test_a_module_gives_its_settings_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("proj_settings")
    module.__dict__.update(
        broker_url="memory://",
        CELERY_ACKS_LATE=True,
        DEBUG=True,
        sys=types,
        helper=lambda: None,
        _x=1,
        Path=types.SimpleNamespace,
    )
    monkeypatch.setitem(__import__("sys").modules, "proj_settings", module)
    conf = Config()
    conf.load("proj_settings")
    assert (conf.broker_url, conf.task_acks_late) == ("memory://", True)
    module.__dict__["broker_ulr"] = "x"
    with pytest.warns(SettingIgnored, match="broker_url"):
        Config().load(module)


def test_a_namespace_takes_only_its_own_names() -> None:
    source = types.SimpleNamespace(
        CELERY_BROKER_URL="memory://", CELERY_ALWAYS_EAGER=True, BROKER_URL="no", broker_url="no"
    )
    conf = Config()
    conf.load(source, namespace="CELERY")
    assert (conf.broker_url, conf.task_always_eager) == ("memory://", True)


def test_a_slip_of_the_pen_is_warned_of_at_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foreign.py").write_text(
        "celery_broker_url = 'memory://'\n\nCELERY_EMAIL_BACKEND = 'smtp'\nCELERY_TASK_ACKS_LAET = 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    conf = Config()
    conf.load("foreign", namespace="CELERY")
    with pytest.warns(SettingIgnored) as caught:
        assert conf.broker_url == "memory://"
    assert conf.email_backend == "smtp"
    assert [(Path(w.filename).name, w.lineno, str(w.message)) for w in caught] == [
        (
            "foreign.py",
            4,
            "`CELERY_TASK_ACKS_LAET` in `foreign` is no setting of taskcore, did you mean `task_acks_late`?",
        )
    ]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("CELERY_TASK_ACKS_LATE", 7, "setting `CELERY_TASK_ACKS_LATE` in `SimpleNamespace` is `7`"),
        (
            "celery_override_backends",
            "x",
            "setting `celery_override_backends` in `SimpleNamespace` is not supported",
        ),
    ],
)
def test_a_setting_of_a_namespace_is_named_as_it_is_written(
    name: str, value: Any, text: str
) -> None:
    conf = Config()
    with pytest.raises(ImproperlyConfigured, match=re.escape(text)):
        conf.load(types.SimpleNamespace(**{name: value}), namespace="CELERY")


def test_a_module_that_does_not_exist_is_said_on_first_use() -> None:
    conf = Config()
    conf.load("no_such_module_at_all")
    with pytest.raises(ImproperlyConfigured, match="no_such_module_at_all"):
        _ = conf.broker_url
    silent = Config()
    silent.load("no_such_module_at_all", silent=True)
    assert silent.broker_url == settings.DEFAULT_URL


def test_what_has_no_effect_can_be_read_back() -> None:
    conf = Config()
    with pytest.warns(SettingIgnored):
        conf.update(worker_log_color=False, broker_pool_limit=None)
    assert conf.worker_log_color is False and conf["broker_pool_limit"] is None
    with pytest.warns(SettingIgnored):
        conf.broker_pool_limit = 3
    assert conf.broker_pool_limit == 3


def test_a_time_zone_may_be_an_object() -> None:
    tz = pytest.importorskip("dateutil.tz")

    class OfPytz(tzinfo):
        zone = "Europe/Oslo"

    named = ZoneInfo("Europe/Oslo")
    at = datetime(2026, 7, 1, 12)
    for given in ("Europe/Oslo", named, tz.gettz("Europe/Oslo"), OfPytz()):
        conf = Config()
        conf.timezone = given
        found = zone(conf.timezone, utc=True)
        assert at.replace(tzinfo=found).utcoffset() == timedelta(hours=2)
    with pytest.raises(ImproperlyConfigured, match="a tzinfo"):
        Config().update(timezone=5)


def test_a_machine_without_zones_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["tzdata", *(name for name in sys.modules if name.startswith("tzdata."))]:
        monkeypatch.setitem(sys.modules, name, None)
    ZoneInfo.clear_cache()
    zoneinfo.reset_tzpath(to=[])
    try:
        with pytest.raises(ImproperlyConfigured, match="`tzdata`"):
            zone("Europe/Oslo", utc=True)
        assert zone("UTC", utc=False) is UTC
    finally:
        zoneinfo.reset_tzpath()
    with pytest.raises(ImproperlyConfigured, match="such as Europe/Oslo"):
        zone("Mars/Olympus", utc=True)


def test_every_old_name_of_celery_is_understood() -> None:
    defaults = pytest.importorskip("celery.app.defaults")
    for old, new in defaults._TO_NEW_KEY.items():
        assert new_name(old) == new, old
    with pytest.warns(SettingIgnored, match="worker_lost_wait"):
        Config().update(CELERYD_WORKER_LOST_WAIT=3)
    conf = Config()
    conf.update(CELERY_SEND_EVENTS=True)
    assert conf["worker_send_task_events"] is True


def test_the_environment_names_the_module_of_an_app_without_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "named_by_environment.py").write_text("task_ignore_result = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "named_by_environment")
    conf = Config()
    assert conf.waits and conf["task_ignore_result"] is True and not conf.waits
    other = Config()
    other.load({"task_acks_late": True})
    assert other["task_ignore_result"] is False


def test_no_thread_goes_on_with_defaults_while_another_reads_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        import builtins
        builtins.slow_settings_begun.set()
        assert builtins.slow_settings_may_end.wait(30)
        broker_url = "redis://named:1/0"
    """
    (tmp_path / "slow_settings.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    begun, may_end, asked = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(builtins, "slow_settings_begun", begun, raising=False)
    monkeypatch.setattr(builtins, "slow_settings_may_end", may_end, raising=False)
    conf, seen = Config(), []
    conf.load("slow_settings")

    def first() -> None:
        seen.append(conf["broker_url"])

    def second() -> None:
        asked.set()
        seen.append(conf["broker_url"])

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    assert asked.wait(30)
    threads[1].join(0.2)  # it must not end: the settings are not known yet
    may_end.set()
    for thread in threads:
        thread.join()
    assert seen == ["redis://named:1/0"] * 2


def test_settings_may_ask_for_settings_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asking_settings.py").write_text(
        "import builtins\nseen = builtins.asking_conf['task_ignore_result']\n"
        "del seen\ntask_ignore_result = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    conf = Config()
    monkeypatch.setattr(builtins, "asking_conf", conf, raising=False)
    conf.load("asking_settings")
    assert conf["task_ignore_result"] is True


def test_settings_that_cannot_be_read_are_an_error_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_settings.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    conf = Config()
    conf.load("broken_settings")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            _ = conf["broker_url"]


def test_explicit_wins_over_loaded_over_environment_over_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conf = Config()
    assert conf.broker_url == settings.DEFAULT_URL
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://celery")
    assert Config().broker_url == "memory://celery"
    monkeypatch.setenv("TASKCORE_BROKER_URL", "memory://own")
    assert Config().broker_url == "memory://own"
    conf = Config()
    conf.load({"broker_url": "memory://loaded"})
    assert conf.broker_url == "memory://loaded"
    conf.update(broker_url="memory://explicit")
    conf.load({"broker_url": "memory://later"})
    assert conf.broker_url == "memory://explicit"


def test_the_environment_can_name_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("env_settings")
    module.__dict__["task_acks_late"] = True
    monkeypatch.setitem(__import__("sys").modules, "env_settings", module)
    with pytest.raises(ImproperlyConfigured, match="PROJ_CONFIG"):
        Config().load_environment("PROJ_CONFIG")
    monkeypatch.setenv("PROJ_CONFIG", "env_settings")
    conf = Config()
    assert conf.load_environment("PROJ_CONFIG")
    assert conf.task_acks_late is True


def test_defaults_follow_the_protocol_and_the_broker() -> None:
    conf = Config()
    assert (conf.task_default_queue, conf.task_serializer, conf.protocol) == (
        "taskcore",
        "msgpack",
        "compact",
    )
    assert conf.result_backend == conf.broker_url
    conf.update(task_protocol=2, broker_url="redis://x")
    assert (conf.task_default_queue, conf.task_serializer, conf.protocol) == (
        "celery",
        "json",
        "celery",
    )
    assert conf.result_backend is None
    assert conf.default_queue("compact") == "taskcore"


def test_none_said_aloud_turns_results_off() -> None:
    conf = Config()
    conf.update(result_backend=None)
    assert conf.result_backend is None


def test_a_change_is_announced_and_a_frozen_configuration_refuses_it() -> None:
    seen: list[int] = []
    conf = Config(lambda: seen.append(1))
    conf.task_acks_late = True
    assert seen == [1]
    conf.freeze()
    with pytest.raises(ImproperlyConfigured, match="task_ignore_result"):
        conf.task_ignore_result = True


def test_reading_an_unknown_name_proposes_the_nearest() -> None:
    with pytest.raises(AttributeError, match="broker_url"):
        _ = Config().broker_ulr
    with pytest.raises(KeyError):
        _ = Config()["broker_ulr"]
    assert not hasattr(Config(), "nonsense")
    assert Config().get("nonsense", 1) == 1


def test_the_table_hides_passwords() -> None:
    conf = Config()
    conf.update(broker_url="redis://user:secret@host/0")
    assert "secret" not in repr(conf) and "secret" not in conf.humanize()
    assert conf.table() == {"broker_url": "redis://user:***@host/0"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:p@ss@h/0", "redis://:***@h/0"),
        ("redis://h/0", "redis://h/0"),
        ("user@h", "user@h"),
        ("redis://user@h", "redis://user@h"),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/s", 10),
        ("60/m", 1),
        ("3600/h", 1),
        (5, 5),
        ("2", 2),
        (None, None),
        (0, None),
        ("1.5/s", 1.5),
    ],
)
def test_rates(text: Any, rate: float | None) -> None:
    assert rate_per_second(text) == rate


@pytest.mark.parametrize("text", ["x", "1/d", "-1/s", "/s"])
def test_rates_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"rate|convert"):
        rate_per_second(text)


@pytest.mark.parametrize(
    ("routes", "name", "queue"),
    [
        ({"*": "all", "a.b": "one"}, "a.b", "one"),
        ({"*": "all", "a.b": "one"}, "a.c", "all"),
        ([("a.*", "x"), ("b.*", "y")], "b.c", "y"),
        (([("a.*", "x"), ("b.*", "y")],), "b.c", "y"),
        ([{"a.*": "x"}, {"a.b": "late"}], "a.b", "x"),
        (
            [(re.compile(r"(video|image)\.tasks\..*"), {"queue": "media"})],
            "image.tasks.cut",
            "media",
        ),
        ({re.compile("a"): "x", "ab": "y"}, "ab", "y"),
        ({"a": "x"}, "b", None),
        ((), "b", None),
    ],
)
def test_routes_in_every_form_of_celerys(app: Any, routes: Any, name: str, queue: str) -> None:
    app.conf.task_routes = routes
    assert app.producer.routing.queue_of(name) == queue


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("task_publish_retry_policy", {"max_retry": 1}, "did you mean `max_retries`"),
        ("task_publish_retry_policy", {"interval_max": "1"}, "max_retries .a whole number"),
        ("task_publish_retry_policy", {"max_retries": 1.5}, "max_retries .a whole number"),
        ("broker_url", ["redis://a", "redis://b"], "several servers"),
        ("worker_pool_start_method", "spawn", "expected fork"),
        ("worker_uid", "nobody", "systemd"),
        ("beat_schedule", {"a": {"schedule": 1.0}}, "`a` needs `task`"),
        ("beat_schedule", {"a": {"task": "t", "schedul": 1.0}}, "did you mean `schedule`"),
        ("beat_schedule", {"a": 1}, "name to periodic task"),
        ("beat_scheduler", 1, "module:name"),
        ("beat_executable", "python", "interpreter in front"),
    ],
)
def test_what_is_refused_says_what_to_do(name: str, value: Any, told: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=told):
        Config().update({name: value})


def test_every_remedy_is_for_a_setting_that_is_refused() -> None:
    assert settings.REMEDIES.keys() <= settings.REFUSED.keys()


def test_a_setting_without_effect_has_no_value() -> None:
    with pytest.raises(ImproperlyConfigured, match="has no effect here, and no value"):
        Config().broker_pool_limit  # noqa: B018


def test_what_is_put_into_a_default_is_of_one_configuration() -> None:
    one, other = Config(), Config()
    one.broker_transport_options["global_keyprefix"] = "p"
    one.task_publish_retry_policy["max_retries"] = 9
    one.timezone = "UTC"
    assert one.broker_transport_options == {"global_keyprefix": "p"}
    assert one.task_publish_retry_policy["max_retries"] == 9
    assert other.broker_transport_options == {} and settings.RETRY_POLICY["max_retries"] is None
    assert other.task_publish_retry_policy["max_retries"] is None


def test_periodic_tasks_can_be_added_to_the_setting() -> None:
    conf = Config()
    entry = {"task": "t", "schedule": 1.0}
    conf.beat_schedule["x"] = entry
    conf.beat_schedule.update(y=entry)
    assert conf["beat_schedule"] == {"x": entry, "y": entry}
    assert Config().beat_schedule == {}


def lines_warned_about(caught: list[warnings.WarningMessage]) -> list[tuple[str, str]]:
    """Whose line each warning points at, and that line."""
    return [
        (Path(one.filename).name, linecache.getline(one.filename, one.lineno).strip())
        for one in caught
    ]


def test_a_warning_points_at_the_line_that_sets_it_once() -> None:
    options = {"visibility_timeout": 3}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        app = Taskcore("p", broker="memory://", broker_transport_options=options)
        app.conf.worker_pool_putlocks = False
        app.conf.update(worker_lost_wait="x")
        for _ in range(2):
            _ = app.conf.table(), app.conf.transport_options("broker_transport_options")
    here = Path(__file__).name
    assert lines_warned_about(caught) == [
        (here, 'app = Taskcore("p", broker="memory://", broker_transport_options=options)'),
        (here, "app.conf.worker_pool_putlocks = False"),
        (here, 'app.conf.update(worker_lost_wait="x")'),
    ]


@pytest.mark.parametrize("namespace", [None, "CELERY"])
def test_a_warning_about_a_module_of_settings_points_into_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespace: str | None
) -> None:
    prefix = f"{namespace}_" if namespace else ""
    name = f"settings_with_{namespace}"
    text = f"{prefix}worker_pool_putlocks = 0"
    (tmp_path / f"{name}.py").write_text(f"import os\n\n{text.upper() if namespace else text}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            app = Taskcore("p", broker="memory://")
            app.config_from_object(name, namespace=namespace)
            _ = app.conf.table()
    assert [(place, line.lower()) for place, line in lines_warned_about(caught)] == [
        (f"{name}.py", text.lower())
    ]
