"""The one table of settings: name, Celery's old name, type, default, meaning.

`conf.py` is the machine that reads it; nothing here does anything. Below the table stand Celery's
settings that this version knows but does not honour, in two kinds: those that change nothing that
taskcore does (accepted with a warning), and those that a program may rely on (refused, because to
accept them in silence would be a lie). A kind with `?` also takes None.
"""

from __future__ import annotations

from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Final


class Setting:
    """One setting."""

    __slots__ = ("default", "doc", "kind", "name", "old")

    def __init__(self, name: str, old: str, kind: str, default: Any, doc: str) -> None:
        self.name = name
        self.old = old
        """Names of Celery 3 style, separated by spaces."""
        self.kind = kind
        """`bool int float str url names dict policy seconds rate routes protocol zone`, or `a|b|c`
        for a choice; `?` allows None."""
        self.default = default
        self.doc = doc


DEFAULT_URL: Final = "sqlite:///taskcore.db"
"""Broker and result store of an app that names neither: a file in the current directory."""

RETRY_POLICY: Final = {
    "max_retries": None,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 1,
}

_S = Setting
# fmt: off
TABLE: Final = (
    # Broker and results.
    _S("broker_url", "BROKER_URL", "url?", None,
       f"Where tasks are queued. Default: `{DEFAULT_URL}`. The environment may name it: TASKCORE_BROKER_URL."),
    _S("broker_read_url", "BROKER_READ_URL", "url?", None, "The same; one server is served, so that it must be the other's."),
    _S("broker_write_url", "BROKER_WRITE_URL", "url?", None, "The same."),
    _S("broker_use_ssl", "BROKER_USE_SSL", "ssl?", None,
       "Encrypt: True, or a dict of `ca_certs`, `certfile`, `keyfile`, `cert_reqs` (required), as parameters of the URL say it."),
    _S("broker_transport", "BROKER_TRANSPORT", "str?", None, "With the next five: the parts of a URL, where `broker_url` names none."),
    _S("broker_host", "BROKER_HOST", "str?", None, "Host of the broker."),
    _S("broker_port", "BROKER_PORT", "text?", None, "Its port."),
    _S("broker_user", "BROKER_USER", "str?", None, "User there."),
    _S("broker_password", "BROKER_PASSWORD", "str?", None, "The user's password."),
    _S("broker_vhost", "BROKER_VHOST", "text?", None, "Virtual host, or the number of the database."),
    _S("broker_transport_options", "BROKER_TRANSPORT_OPTIONS", "dict", {},
       "`global_keyprefix` (redis), `durability` (sqlite: `full` or `normal`), `queue_order_strategy` (`round_robin`, the default: queues take turns; "
       "`priority` or `sorted`: in the order given or by name, the first while it has something)."),
    _S("broker_connection_timeout", "BROKER_CONNECTION_TIMEOUT", "seconds", 4.0,
       "Time to set up one connection. Celery's name; a publish is bounded by task_publish_timeout as well."),
    _S("result_backend", "CELERY_RESULT_BACKEND", "url?", None,
       "Where results are kept. Default: beside the tasks when no broker is named either, else nowhere."),
    _S("redis_backend_use_ssl", "CELERY_REDIS_BACKEND_USE_SSL", "ssl?", None, "As `broker_use_ssl`, for the result store."),
    _S("redis_host", "CELERY_REDIS_HOST", "str?", None, "With the next four: parts of the URL, where `result_backend` is only `redis`."),
    _S("redis_port", "CELERY_REDIS_PORT", "text?", None, "Its port."),
    _S("redis_db", "CELERY_REDIS_DB", "text?", None, "Its database."),
    _S("redis_username", "CELERY_REDIS_USERNAME", "str?", None, "User there."),
    _S("redis_password", "CELERY_REDIS_PASSWORD", "str?", None, "The user's password."),
    _S("result_backend_transport_options", "", "dict", {},
       "As broker_transport_options, for the result store. `result_chord_ordered` is accepted: a body gets the results in "
       "the order of the members, or in that in which they came where stock workers are told not to order theirs."),
    _S("result_expires", "CELERY_TASK_RESULT_EXPIRES CELERY_RESULT_EXPIRES", "seconds?", 86400.0,
       "How long a result is kept; None or 0: for ever."),
    _S("result_extended", "CELERY_RESULT_EXTENDED", "bool", False,
       "Store name, args, kwargs, worker, retries and queue with the result."),
    _S("result_serializer", "CELERY_RESULT_SERIALIZER", "str", "json",
       "How results are written: json, msgpack, pickle, yaml, or a serializer that was registered."),
    _S("result_compression", "", "str?", None, "How results are compressed: `gzip`, `bzip2` or `zstd`."),
    _S("result_accept_content", "", "names?", None,
       "Serializers (or content types) of results that are opened; json always is. Default: accept_content. "
       "`pickle` lets whoever can write to the result store run code."),
    _S("result_chord_join_timeout", "CELERY_RESULT_CHORD_JOIN_TIMEOUT", "seconds?", 3.0,
       "Accepted: what it bounds does not take place. Whoever stores the last result of a chord has all of them, and waits for none."),
    _S("result_chord_retry_interval", "CELERY_RESULT_CHORD_RETRY_INTERVAL", "seconds", 1.0,
       "Accepted: no task asks again and again whether a chord is complete."),
    _S("result_max_size", "", "count", 64 * 1024 * 1024,
       "The longest encoded result, in bytes; a task that returns more ends as a FAILURE. taskcore's own."),
    # Messages.
    _S("task_protocol", "CELERY_TASK_PROTOCOL", "protocol", "compact",
       "`compact`, or 2 for Celery's messages, which a mixed fleet needs."),
    _S("task_serializer", "CELERY_TASK_SERIALIZER", "str?", None, "Default: msgpack, with task_protocol=2 json."),
    _S("task_compression", "CELERY_MESSAGE_COMPRESSION", "str?", None, "`gzip`, `bzip2` or `zstd`."),
    _S("task_max_body", "", "count", 16 * 1024 * 1024, "The longest encoded arguments, in bytes, before compression. taskcore's own."),
    _S("accept_content", "CELERY_ACCEPT_CONTENT", "names", ("json", "msgpack"),
       "Serializers (or content types) that a worker opens. `pickle` lets whoever can write to the queue run code."),
    _S("task_default_queue", "CELERY_DEFAULT_QUEUE", "str?", None, "Default: taskcore, with task_protocol=2 celery."),
    _S("task_default_queue_type", "", "classic|quorum", "classic", "Of the default queue, on RabbitMQ."),
    _S("task_default_exchange", "CELERY_DEFAULT_EXCHANGE", "str?", None,
       "Exchange of queues that name none. Default: as `task_default_queue`."),
    _S("task_default_exchange_type", "CELERY_DEFAULT_EXCHANGE_TYPE", "direct|topic|fanout|headers", "direct", "How that one routes."),
    _S("task_default_routing_key", "CELERY_DEFAULT_ROUTING_KEY", "str?", None,
       "Routing key of queues that name none. Default: as `task_default_queue`."),
    _S("task_queues", "CELERY_QUEUES", "queues?", None,
       "The queues that a worker consumes: `taskcore.entity.Queue` or kombu's, names, or a dict of name to options."),
    _S("task_create_missing_queues", "CELERY_CREATE_MISSING_QUEUES", "bool", True,
       "Off: a queue that is not in `task_queues` is an error at the call, and for `worker -Q`."),
    _S("task_create_missing_queue_type", "", "classic|quorum?", None, "Of queues that are not in `task_queues`, on RabbitMQ."),
    _S("task_create_missing_queue_exchange_type", "", "direct|topic|fanout|headers?", None,
       "How the exchange of a queue routes that is not in `task_queues`. Default: direct."),
    _S("task_queue_max_priority", "CELERY_TASK_QUEUE_MAX_PRIORITY", "int?", None,
       "`x-max-priority` of queues that name none, for RabbitMQ. Other brokers have 0 to 9."),
    _S("task_routes", "CELERY_ROUTES", "routes?", None,
       "Task name, glob pattern or regular expression -> queue, or a dict of options of a call; a function, or its name; or a list of these."),
    _S("task_default_priority", "CELERY_TASK_DEFAULT_PRIORITY", "priority?", None, "0 to 9; 0 is served first."),
    _S("task_inherit_parent_priority", "CELERY_INHERIT_PARENT_PRIORITY", "bool", False,
       "A task published by a task has that one's priority."),
    _S("task_allow_error_cb_on_chord_header", "", "bool", False,
       "What is linked to a chord for failures also follows each header task that fails."),
    _S("task_publish_retry", "CELERY_TASK_PUBLISH_RETRY", "bool", True, "Try again when the broker is away."),
    _S("task_publish_retry_policy", "CELERY_TASK_PUBLISH_RETRY_POLICY", "policy", RETRY_POLICY,
       "max_retries (None: until `task_publish_timeout`), interval_start, interval_step, interval_max, in seconds. "
       "DIFFERENCE: Celery's default ends after 3 retries, 0.6 seconds."),
    _S("task_publish_timeout", "", "seconds", 5.0, "What one publish may take in all. taskcore's own."),
    # Execution.
    _S("task_always_eager", "CELERY_ALWAYS_EAGER", "bool", False, "Run tasks at the call instead of publishing."),
    _S("task_eager_propagates", "CELERY_EAGER_PROPAGATES_EXCEPTIONS CELERY_EAGER_PROPAGATES", "bool", False,
       "Eager tasks raise at the call."),
    _S("task_ignore_result", "CELERY_IGNORE_RESULT", "bool", False, "Keep no results."),
    _S("task_store_errors_even_if_ignored", "CELERY_STORE_ERRORS_EVEN_IF_IGNORED", "bool", False,
       "Keep failures even then."),
    _S("task_track_started", "CELERY_TRACK_STARTED", "bool", False, "Store STARTED when a task begins."),
    _S("task_acks_late", "CELERY_ACKS_LATE", "bool", False, "Acknowledge after the execution, not at its start."),
    _S("task_acks_on_failure_or_timeout", "CELERY_ACKS_ON_FAILURE_OR_TIMEOUT", "bool", True,
       "With late acknowledgement: also when the task failed."),
    _S("task_acks_on_failure", "", "bool?", None, "The same for a failure; must not differ from the next one. Default: as above."),
    _S("task_acks_on_timeout", "", "bool?", None, "The same for a time limit. Default: as above."),
    _S("task_store_eager_result", "CELERY_STORE_EAGER_RESULT", "bool", False, "Store the results of tasks that run at the call."),
    _S("task_reject_on_worker_lost", "CELERY_REJECT_ON_WORKER_LOST", "bool", True,
       "With late acknowledgement: run again elsewhere when the process died. DIFFERENCE: Celery's default is off, "
       "because there nothing counts the attempts; here worker_max_deliveries does."),
    _S("task_time_limit", "CELERYD_TASK_TIME_LIMIT", "seconds?", None, "After this the task's process is killed."),
    _S("task_soft_time_limit", "CELERYD_TASK_SOFT_TIME_LIMIT", "seconds?", None,
       "After this SoftTimeLimitExceeded is raised in the task."),
    _S("task_annotations", "CELERY_ANNOTATIONS", "annotations?", None,
       "Task name, or `*` for all -> options that replace the task's own; a dict, or a list of them."),
    _S("task_default_rate_limit", "CELERY_DEFAULT_RATE_LIMIT", "rate?", None, "`10/s`, `100/m`, `5/h`, or a number."),
    # Worker.
    _S("worker_concurrency", "CELERYD_CONCURRENCY", "count?", None, "Tasks at the same time. Default: the cores."),
    _S("worker_pool", "CELERYD_POOL", "prefork|asyncio|threads|solo", "prefork", "Where tasks run."),
    _S("worker_coroutines", "", "count", 100, "Calls at the same time in each process of the pool asyncio. taskcore's own."),
    _S("worker_prefetch_multiplier", "CELERYD_PREFETCH_MULTIPLIER", "int?", None,
       "Messages claimed per slot; 0: no limit. Default: adapts to how long tasks take."),
    _S("worker_disable_prefetch", "", "bool", False, "Claim only what can start at once."),
    _S("worker_prefetch_bytes", "", "count", 64 * 1024 * 1024, "Bound on claimed bytes. taskcore's own."),
    _S("worker_max_tasks_per_child", "CELERYD_MAX_TASKS_PER_CHILD", "count?", None, "Then the child is replaced."),
    _S("worker_max_memory_per_child", "CELERYD_MAX_MEMORY_PER_CHILD", "count?", None,
       "KiB of memory; a child that has taken more is replaced when its task has ended."),
    _S("worker_autoscale_keepalive", "", "seconds", 30.0,
       "How long `--autoscale` keeps processes that nothing needs. The environment may say it: AUTOSCALE_KEEPALIVE. taskcore's own."),
    _S("worker_pool_restarts", "CELERYD_POOL_RESTARTS", "bool", False, "Let `taskcore control pool_restart` replace the pool's processes."),
    _S("worker_max_deliveries", "", "count", 3,
       "A message that cost this many workers their life is parked. taskcore's own."),
    _S("worker_shutdown_timeout", "", "seconds?", None,
       "How long a warm stop waits for running tasks; None: for ever. taskcore's own."),
    _S("worker_soft_shutdown_timeout", "", "seconds", 0.0,
       "What a cold stop first gives to the tasks that run; 0: nothing. A second request is cold at once."),
    _S("worker_enable_soft_shutdown_on_idle", "", "bool", False, "Also wait that long when nothing runs."),
    _S("worker_deduplicate_successful_tasks", "", "bool", False,
       "A late-acked task that is delivered again, and whose result says SUCCESS, is not run again."),
    _S("worker_pool_start_method", "", "fork?", None, "Accepted as `fork`: processes are forked from one that has the app loaded."),
    _S("worker_disable_rate_limits", "CELERY_DISABLE_RATE_LIMITS", "bool", False, "Ignore rate limits."),
    _S("worker_http", "", "address?", None,
       "Serve /live, /ready and /metrics at this `host:port`, port, or `unix:` and a path. Default: nowhere. taskcore's own."),
    _S("worker_direct", "CELERY_WORKER_DIRECT", "bool", False,
       "A queue of each worker's own, `<node name>.dq2`: `taskcore.entity.worker_direct(node name)` names it in calls and routes."),
    _S("worker_enable_remote_control", "CELERY_ENABLE_REMOTE_CONTROL", "bool", True,
       "Let the worker be asked and told by `app.control`, `taskcore inspect` and `taskcore control`."),
    _S("control_exchange", "", "str", "celery", "The name that workers are asked under; a fleet of its own name is asked alone."),
    _S("worker_revokes_max", "", "count", 100_000, "How many revoked ids a worker remembers. The environment may say it: CELERY_WORKER_REVOKES_MAX."),
    _S("worker_revoke_expires", "", "seconds", 10_800.0, "For how long. The environment may say it: CELERY_WORKER_REVOKE_EXPIRES."),
    _S("worker_send_task_events", "CELERY_SEND_EVENTS", "bool", False,
       "Tell monitors what happens to tasks, as `worker -E` does."),
    _S("task_send_sent_event", "CELERY_SEND_TASK_SENT_EVENT", "bool", False,
       "Tell monitors of each task that is published."),
    _S("event_exchange", "", "str", "celeryev", "The name that events are told under."),
    _S("event_serializer", "", "json", "json", "Events are JSON, which every monitor reads; nothing else is accepted."),
    _S("worker_logfile", "CELERYD_LOG_FILE", "str?", None, "The log of a worker, as its `--logfile`."),
    _S("worker_pidfile", "CELERYD_PID_FILE", "str?", None, "A file with the number of its process, as its `--pidfile`."),
    _S("worker_hijack_root_logger", "CELERYD_HIJACK_ROOT_LOGGER", "bool?", None,
       "Let the worker configure the root logger: True replaces its handlers, False leaves it alone, None configures it if it has none. "
       "DIFFERENCE: True in Celery."),
    _S("worker_log_format", "CELERYD_LOG_FORMAT", "str?", None,
       "How records of Python's `logging` are written; Celery's default is `[%(asctime)s: %(levelname)s/%(processName)s] %(message)s`. "
       "Default: that, with the running task. The worker's own lines, `received` and the like, have one form."),
    _S("worker_task_log_format", "CELERYD_TASK_LOG_FORMAT", "str?", None,
       "The same for loggers of `get_task_logger`; `%(task_name)s` and `%(task_id)s` are there too."),
    _S("worker_log_datefmt", "", "str?", None, "How their times are written, as for `time.strftime`."),
    _S("worker_task_log_datefmt", "", "str?", None, "The same for loggers of `get_task_logger`."),
    _S("worker_log_color", "CELERYD_LOG_COLOR", "bool?", None,
       "Colour records by their level; the environment variable NO_COLOR turns that off. DIFFERENCE: Celery's default is to do so on a terminal."),
    _S("worker_redirect_stdouts", "CELERY_REDIRECT_STDOUTS", "bool", False,
       "What tasks print becomes records of the logger `taskcore.redirected`. DIFFERENCE: on in Celery."),
    _S("worker_redirect_stdouts_level", "CELERY_REDIRECT_STDOUTS_LEVEL", "level", "WARNING", "Their level."),
    # Beat.
    _S("beat_schedule", "CELERYBEAT_SCHEDULE", "entries", {},
       "Name -> periodic task: `task`, `schedule`, `args`, `kwargs`, `options`, `relative`, and taskcore's own `missed` and `jitter`."),
    _S("beat_schedule_name", "", "str?", None,
       "What the beats of one app know its entries by in the broker's store. Default: the app's name, or `default`. taskcore's own."),
    _S("beat_scheduler", "CELERYBEAT_SCHEDULER", "scheduler", "taskcore.beat:StoreScheduler",
       "Class of the scheduler, or its name. DIFFERENCE: Celery's default keeps a file, which `taskcore.beat:PersistentScheduler` does."),
    _S("beat_schedule_filename", "CELERYBEAT_SCHEDULE_FILENAME", "str", "taskcore-beat", "The file of schedulers that have one."),
    _S("beat_max_loop_interval", "CELERYBEAT_MAX_LOOP_INTERVAL", "seconds", 0.0,
       "Seconds between two looks at the schedule at most; 0: the scheduler's own."),
    _S("beat_sync_every", "CELERYBEAT_SYNC_EVERY", "int", 0,
       "Write the file after so many tasks; 0: every three minutes. The default scheduler has no file."),
    _S("beat_cron_starting_deadline", "", "seconds?", None,
       "A time of a crontab that was missed is not sent when it is older than this. Default: however old."),
    _S("beat_logfile", "", "str?", None, "The log of `taskcore beat`, as its `--logfile`."),
    _S("beat_pidfile", "", "str?", None, "A file with the number of the process of `taskcore beat`, as its `--pidfile`."),
    _S("beat_enable_remote_control", "", "bool", False, "Have a beat answer `inspect ping`, as `celerybeat@host`."),
    _S("beat_remote_control_max_tick_age", "", "seconds?", None,
       "Seconds without a look at the schedule after which it is silent; 0: never. Default: twice the longest sleep, 60 at least."),
    _S("beat_uid", "", "str?", None, "User that `taskcore beat` becomes, as its `--uid`."),
    _S("beat_gid", "", "str?", None, "Group that `taskcore beat` becomes, as its `--gid`."),
    _S("beat_umask", "", "str?", None, "Rights that its files do not get, in octal, as its `--umask`."),
    # What is loaded.
    _S("imports", "CELERY_IMPORTS", "names", (), "Modules to import when a worker starts."),
    _S("include", "CELERY_INCLUDE", "names", (), "More of the same; what `Taskcore(include=...)` sets."),
    _S("timezone", "CELERY_TIMEZONE", "zone?", None, "Zone of naive times: a name or a tzinfo. Default: UTC."),
    _S("enable_utc", "CELERY_ENABLE_UTC", "bool", True, "Off: naive times without `timezone` are local."),
)
# fmt: on

BY_NAME: Final = {setting.name: setting for setting in TABLE}
BY_OLD_NAME: Final = {old: setting.name for setting in TABLE for old in setting.old.split()}

TRANSPORT_OPTIONS_IGNORED: Final = frozenset(
    [
        "visibility_timeout",
        "fanout_prefix",
        "fanout_patterns",
        "unacked_restore_limit",
        "sep",
        "priority_steps",
        "socket_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_keepalive_options",
        "health_check_interval",
        "retry_on_timeout",
        "max_connections",
        "retry_policy",
        "polling_interval",
        "confirm_publish",
    ]
)
"""Transport options of kombu's that change nothing here: taskcore has no visibility timeout and
does not poll."""

TRANSPORT_OPTIONS_ACCEPTED: Final = frozenset({"result_chord_ordered"})
"""Transport options whose meaning holds whatever they say."""

IGNORED: Final = frozenset(
    [
        "broker_pool_limit",
        "broker_pool_acquire_timeout",
        "broker_heartbeat",
        "broker_heartbeat_checkrate",
        "broker_login_method",
        "broker_connection_retry",
        "broker_connection_retry_on_startup",
        "broker_connection_max_retries",
        "broker_failover_strategy",
        "broker_channel_error_retry",
        "broker_native_delayed_delivery_queue_type",
        "redis_max_connections",
        "redis_socket_timeout",
        "redis_socket_connect_timeout",
        "redis_retry_on_timeout",
        "redis_socket_keepalive",
        "redis_client_name",
        "redis_backend_health_check_interval",
        "result_cache_max",
        "result_exchange",
        "result_exchange_type",
        "result_persistent",
        "result_backend_max_sleep_between_retries_ms",
        "result_backend_max_retries",
        "result_backend_base_sleep_between_retries_ms",
        "result_backend_always_retry",
        "result_backend_thread_safe",
        "task_default_delivery_mode",
        "worker_autoscaler",
        "worker_cancel_long_running_tasks_on_connection_loss",
        "worker_consumer",
        "worker_state_db",
        "worker_lost_wait",
        "worker_pool_putlocks",
        "worker_proc_alive_timeout",
        "worker_eta_task_limit",
        "worker_enable_prefetch_count_reduction",
        "worker_timer",
        "worker_timer_precision",
        "worker_detect_quorum_queues",
        "result_chord_expires",
        "result_failure_expires",
        "task_remote_tracebacks",
        "task_retry_on_worker_lost",
        "worker_agent",
        *(f"events_{name}" for name in ("executable", "gid", "logfile", "pidfile", "uid", "umask")),
        "worker_executable",
        "task_repr_maxlevels",
        "control_queue_ttl",
        "control_queue_expires",
        "control_queue_exclusive",
        "control_queue_durable",
        "event_queue_expires",
        "event_queue_ttl",
        "event_queue_prefix",
        "event_queue_exclusive",
        "event_queue_durable",
    ]
)
"""Accepted with a warning: they tune machinery that taskcore does not have."""


# fmt: off
REFUSED: Final[dict[str, Any]] = {
    "beat_executable": None, "worker_uid": None, "worker_gid": None, "worker_umask": None,
    "override_backends": None, "redis_backend_credential_provider": None,
}
# fmt: on
"""Refused unless set to the default given here."""

REMEDIES: Final = {
    "beat_executable": "name the interpreter in front: `python3.12 -m taskcore -A proj beat`",
    **dict.fromkeys(
        ("worker_uid", "worker_gid", "worker_umask"),
        "let systemd, supervisor or a container run it",
    ),
}
"""What to do instead; of others, nothing but to remove them."""

# fmt: off
OF_STORES: Final[dict[str, Any]] = {
    "cache_backend": None, "cache_backend_options": {}, "cassandra_entry_ttl": None, "cassandra_keyspace": None, "cassandra_port": None,
    "cassandra_read_consistency": None, "cassandra_servers": None, "cassandra_bundle_path": None, "cassandra_table": None,
    "cassandra_write_consistency": None, "cassandra_auth_provider": None, "cassandra_auth_kwargs": None, "cassandra_options": {},
    "s3_access_key_id": None, "s3_secret_access_key": None, "s3_bucket": None, "s3_base_path": None, "s3_endpoint_url": None,
    "s3_region": None, "azureblockblob_container_name": "celery", "azureblockblob_retry_initial_backoff_sec": 2,
    "azureblockblob_retry_increment_base": 2, "azureblockblob_retry_max_attempts": 3, "azureblockblob_base_path": "",
    "azureblockblob_connection_timeout": 20, "azureblockblob_read_timeout": 120, "gcs_bucket": None, "gcs_project": None,
    "gcs_base_path": "", "gcs_ttl": 0, "couchbase_backend_settings": None, "arangodb_backend_settings": None,
    "mongodb_backend_settings": None, "cosmosdbsql_database_name": "celerydb", "cosmosdbsql_collection_name": "celerycol",
    "cosmosdbsql_consistency_level": "Session", "cosmosdbsql_max_retry_attempts": 9, "cosmosdbsql_max_retry_wait_time": 30,
    "elasticsearch_retry_on_timeout": None, "elasticsearch_max_retries": None, "elasticsearch_timeout": None,
    "elasticsearch_save_meta_as_text": True, "security_certificate": None, "security_cert_store": None, "security_key": None,
    "security_key_password": None, "security_digest": "sha256", "database_url": None,
    "database_engine_options": {"pool_pre_ping": True, "pool_recycle": 3600}, "database_engine_callback": None,
    "database_short_lived_sessions": False, "database_table_schemas": None, "database_table_names": None,
    "database_create_tables_at_setup": True, "cassandra_secure_bundle_path": None, "gcs_threadpool_maxsize": 10,
    "gcs_firestore_project": None,
}
# fmt: on
"""Of result stores, and of signing, that this version does not have: which store is used is said by
`result_backend`. Accepted, with a warning unless set to the default given here."""

OLD_FAMILIES: Final = ("CELERY", "CELERYD_", "CELERYBEAT_", "BROKER_", "CELERYMON_")
"""A capitalised name that begins so is meant for taskcore; other capitalised names of a module are
not."""
