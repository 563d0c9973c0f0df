#!/bin/sh
# rabbitmq.sh PORT DIR: a RabbitMQ of its own on PORT (with the two ports behind it) and in DIR, until standard input ends.
# It says `completed with` on standard output when it is ready. Its node is `tests@localhost`; rabbitmqctl finds it with `DIR/ctl`.
set -eu
port=$1 dir=$2
server=$(command -v /usr/lib/rabbitmq/bin/rabbitmq-server || command -v rabbitmq-server)
mkdir -p "$dir"
cat > "$dir/rabbitmq.conf" <<END
listeners.tcp.1 = 127.0.0.1:$port
loopback_users = none
log.console = false
log.file = rabbit.log
log.file.level = warning
vm_memory_high_watermark.relative = 0.6
disk_free_limit.absolute = 50MB
END
echo '[].' > "$dir/plugins"
cat > "$dir/env" <<END
export HOME='$dir' ERL_EPMD_PORT=$((port + 1)) ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_NODENAME=tests@localhost
END
. "$dir/env"
export RABBITMQ_NODE_PORT=$port RABBITMQ_DIST_PORT=$((port + 2)) RABBITMQ_MNESIA_BASE="$dir/mnesia" RABBITMQ_LOG_BASE="$dir/log"
export RABBITMQ_CONFIG_FILE="$dir/rabbitmq" RABBITMQ_ENABLED_PLUGINS_FILE="$dir/plugins" RABBITMQ_PID_FILE="$dir/pid"
export RABBITMQ_GENERATED_CONFIG_DIR="$dir/generated" RABBITMQ_CONF_ENV_FILE="$dir/no-env"
# Two schedulers that do not spin: tests share the machine with it.
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none'
cat > "$dir/ctl" <<END
#!/bin/sh
. '$dir/env'
exec "$(dirname "$server")/rabbitmqctl" "\$@"
END
chmod +x "$dir/ctl"
setsid "$server" < /dev/null &
group=$!
read -r _ || true
kill -KILL "-$group" 2>/dev/null || true
wait "$group" 2>/dev/null || true
epmd -port "$ERL_EPMD_PORT" -kill > /dev/null 2>&1 || true
