"""Names of Celery's that taskcore does not have, by module below `celery`. Written by
`tools/celery_names.py`, which compares the two."""

# fmt: off
MISSING: dict[str, str] = {
    "":
        "SERIES VERSION_BANNER execute log maybe_patch_concurrency messaging version_info_t",
    "_state":
        "get_current_task get_current_worker_task",
    "app":
        "AppPickler disable_trace enable_trace pop_current_task push_current_task",
    "app.amqp":
        "task_message",
    "app.annotations":
        "MapAnnotation prepare resolve_all",
    "app.autoretry":
        "add_autoretry_behaviour",
    "app.backends":
        "by_name by_url",
    "app.base":
        "",
    "app.builtins":
        "add_accumulate_task add_backend_cleanup_task add_chain_task add_chord_task add_chunk_task add_group_task "
        "add_map_task add_starmap_task add_unlock_chord_task",
    "app.control":
        "",
    "app.defaults":
        "NAMESPACES Option find flatten",
    "app.events":
        "",
    "app.log":
        "Logging",
    "app.registry":
        "",
    "app.routes":
        "MapRoute Router expand_router_string prepare",
    "app.task":
        "",
    "app.trace":
        "TraceInfo reset_worker_optimizations setup_worker_optimizations trace_task",
    "app.utils":
        "Settings appstr bugreport filter_hidden_settings find_app sanitize_url",
    "backends":
        "",
    "backends.base":
        "BaseBackend DisabledBackend KeyValueStoreBackend",
    "beat":
        "BeatPidbox",
    "bootsteps":
        "Blueprint ConsumerStep StartStopStep Step",
    "canvas":
        "",
    "concurrency":
        "get_available_pool_names get_implementation",
    "contrib":
        "",
    "contrib.abortable":
        "AbortableAsyncResult AbortableTask",
    "contrib.django":
        "",
    "contrib.django.task":
        "",
    "contrib.migrate":
        "State StopFiltering migrate_task migrate_tasks move move_by_idmap move_by_taskmap move_direct "
        "move_direct_by_id move_task_by_id republish start_filter task_id_eq task_id_in",
    "events":
        "",
    "events.dispatcher":
        "",
    "events.dumper":
        "",
    "events.event":
        "",
    "events.receiver":
        "",
    "events.snapshot":
        "",
    "events.state":
        "",
    "exceptions":
        "CDeprecationWarning CPendingDeprecationWarning CeleryCommandException FixupWarning reraise",
    "loaders":
        "get_loader_cls",
    "local":
        "maybe_evaluate try_import",
    "platforms":
        "DaemonContext EX_FAILURE EX_OK EX_UNAVAILABLE EX_USAGE IS_WINDOWS IS_macOS LockFailed Pidfile SIGMAP SYSTEM "
        "close_open_fds create_pidlock detached fd_by_path get_errno_name get_fdmax ignore_errno initgroups isatty "
        "maybe_drop_privileges parse_gid parse_uid pyimplementation set_mp_process_title set_process_title setgid "
        "setgroups setuid signal_name signals",
    "result":
        "",
    "schedules":
        "",
    "signals":
        "",
    "states":
        "state",
    "utils":
        "LOG_LEVELS cached_property chunks gen_task_name get_cls_by_name get_full_cls_name import_from_cwd instantiate "
        "memoize nodename nodesplit noop worker_direct",
    "utils.abstract":
        "CallableSignature CallableTask",
    "utils.annotations":
        "annotation_is_class annotation_issubclass get_optional_arg is_none_type",
    "utils.collections":
        "AttributeDict AttributeDictMixin BufferMap ChainMap ConfigurationView DictAttribute Evictable LimitedSet "
        "Messagebuffer OrderedDict force_mapping lpmerge",
    "utils.debug":
        "blockdetection cry humanbytes mem_rss memdump ps sample sample_mem",
    "utils.deprecated":
        "Callable Property warn",
    "utils.dispatch":
        "",
    "utils.dispatch.signal":
        "",
    "utils.functional":
        "LRUCache chunks dictfilter first firstmethod fun_accepts_kwargs head_from_fun is_list lazy mattrgetter maybe "
        "maybe_evaluate maybe_list memoize mlazy noop padlist regen uniq",
    "utils.graph":
        "DOT",
    "utils.imports":
        "NotAPackage cwd_in_path find_module gen_task_name import_from_cwd module_file qualname reload_from_cwd",
    "utils.iso8601":
        "parse_iso8601",
    "utils.log":
        "ColorFormatter LOG_LEVELS LoggingProxy base_logger get_multiprocessing_logger in_sighandler mlevel "
        "reset_multiprocessing_logger set_in_sighandler",
    "utils.nodenames":
        "anon_nodename default_nodename gethostname host_format node_format nodename nodesplit worker_direct",
    "utils.objects":
        "Bunch FallbackContext getitem_property mro_lookup",
    "utils.quorum_queues":
        "detect_quorum_queues",
    "utils.saferepr":
        "reprstream saferepr",
    "utils.serialization":
        "UnpickleableExceptionWrapper create_exception_cls find_pickleable_exception get_pickleable_etype "
        "get_pickleable_exception get_pickled_exception strtobool subclass_exception",
    "utils.sysinfo":
        "AUTO_CONCURRENCY CpuBudget available_cpu_count cgroup_cpu_quota cpu_budget df is_auto_concurrency load_average",
    "utils.term":
        "colored",
    "utils.text":
        "abbr abbrtask dedent dedent_initial ensure_newlines ensure_sep fill_paragraphs indent join pluralize pretty "
        "simple_format str_to_list truncate",
    "utils.threads":
        "Local LocalManager LocalStack bgThread bound_open_broker_sockets default_socket_timeout get_ident",
    "utils.time":
        "LocalTimezone add_seconds_to_datetime adjust_timestamp delta_resolution ffwd remaining subtract_datetimes "
        "utcoffset",
    "utils.timer2":
        "Entry Schedule Timer to_timestamp",
    "worker":
        "WorkController",
    "worker.autoscale":
        "Autoscaler WorkerComponent",
    "worker.components":
        "Beat Consumer Hub Pool StateDB Timer",
    "worker.consumer":
        "Agent Connection Consumer Control Events Gossip Heart Mingle Tasks",
    "worker.consumer.agent":
        "Agent",
    "worker.consumer.connection":
        "Connection",
    "worker.consumer.consumer":
        "Consumer Evloop dump_body",
    "worker.consumer.control":
        "Control",
    "worker.consumer.delayed_delivery":
        "DelayedDelivery",
    "worker.consumer.events":
        "Events",
    "worker.consumer.gossip":
        "Gossip",
    "worker.consumer.heart":
        "Heart",
    "worker.consumer.mingle":
        "Mingle",
    "worker.consumer.tasks":
        "Tasks",
    "worker.control":
        "",
    "worker.heartbeat":
        "Heart",
    "worker.loops":
        "asynloop synloop",
    "worker.pidbox":
        "Pidbox gPidbox",
    "worker.request":
        "Request",
    "worker.state":
        "Persistent SOFTWARE_INFO active_requests maybe_shutdown merge_revoked reserved_requests revoked "
        "scheduled_requests task_accepted task_ready task_reserved task_scheduled total_count",
    "worker.strategy":
        "default",
    "worker.worker":
        "WorkController",
}
# fmt: on
