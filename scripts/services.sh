# shellcheck shell=bash
# The relay and the demo page of an instance. Sourced by ./dev.

# A pid can be reused; pid and start time together identify one process.
started_at() { cut -d ' ' -f 22 "/proc/$1/stat" 2>/dev/null; }
is_running() { # $1: relay or demo
    local pid since
    read -r pid since 2>/dev/null <"$home/$1.pid" && [[ $(started_at "$pid") == "$since" ]]
}

spawn() { # $1: relay or demo; the settings are in the environment
    (cd "$repo" && exec setsid "$venv/bin/python" -m "$1" >>"$home/$1.log" 2>&1 </dev/null 9>&-) &
    local pid=$!
    echo "$pid $(started_at "$pid")" >"$home/$1.pid"
    disown "$pid"
}

stop() { # $1: relay or demo
    local pid since tick
    if is_running "$1"; then
        read -r pid since <"$home/$1.pid"
        kill "$pid" 2>/dev/null || true
        for ((tick = 0; tick < 100; tick++)); do
            [[ $(started_at "$pid") == "$since" ]] || break
            sleep 0.1
        done
        if [[ $(started_at "$pid") == "$since" ]]; then kill -9 "$pid" 2>/dev/null || true; fi
    fi
    rm -f "$home/$1.pid"
}

http_ok() ( # $1: port, $2: path
    exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$2" >&3
    read -r -t 3 _ status _ <&3
    [[ $status == 200 ]]
)

wait_for() { # $1: relay or demo, $2: port, $3: path
    local tick
    for ((tick = 0; tick < 300; tick++)); do
        if http_ok "$2" "$3"; then return 0; fi
        is_running "$1" || die "the $1 ended right after its start: $(tail -n 5 "$home/$1.log")" "full log: $home/$1.log"
        sleep 0.1
    done
    die "the $1 is running but not ready after 30 s: the reason is at http://127.0.0.1:$2$3, the log is $home/$1.log"
}

start_relay() {
    if ! is_running relay; then
        need_port RELAY_PORT
        need_port RELAY_ADMIN_PORT
        RELAY_DSN=$(dsn after_hours_relay) RELAY_JWT_SECRET=$(<"$home/secret") RELAY_JWT_AUDIENCE=after-hours \
            RELAY_BIND=127.0.0.1:$RELAY_PORT RELAY_ADMIN_BIND=127.0.0.1:$RELAY_ADMIN_PORT \
            RELAY_ORIGINS="http://127.0.0.1:$DEMO_PORT,http://localhost:$DEMO_PORT" spawn relay
    fi
    wait_for relay "$RELAY_ADMIN_PORT" /readyz
}

start_page() {
    if ! is_running demo; then
        need_port DEMO_PORT
        DEMO_DSN=$(dsn after_hours_app) RELAY_JWT_SECRET=$(<"$home/secret") DEMO_PORT=$DEMO_PORT RELAY_PORT=$RELAY_PORT \
            spawn demo
    fi
    wait_for demo "$DEMO_PORT" /
}
