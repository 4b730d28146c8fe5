# shellcheck shell=bash
# Commands for an instance as a whole: up, down, status, demo, token. Sourced by ./dev.

# Print a token. $1: user id.
token() { RELAY_JWT_SECRET=$(<"$home/secret") "$venv/bin/python" -m demo.tokens "$1"; }

welcome() {
    local user=0a0a0a0a-0000-4000-8000-00000000000a
    cat <<TEXT
relay   ws://127.0.0.1:$RELAY_PORT/ws        admin   http://127.0.0.1:$RELAY_ADMIN_PORT/ops
page    http://127.0.0.1:$DEMO_PORT/           database   $(dsn postgres)
a token for user $user:
$(cd "$repo" && token "$user")

next    ./dev psql -c "select * from after_hours.start_session('$user', '2 min 10 s')"
        ./dev psql      a menu: the jobs, what is due, what the next purge will delete
        ./dev demo      a scenario of half a minute        ./dev down      stop everything
TEXT
}

cmd_up() {
    local detach=
    case ${1:-} in
        --detach) detach=yes ;;
        '') ;;
        *) die "up takes --detach or nothing, not $1" ;;
    esac
    cmd_cluster
    start_relay
    start_page
    exec 9>&-
    welcome
    [[ -z $detach ]] || return 0
    say "" "Ctrl-C stops everything; the logs follow"
    trap 'exit 0' INT TERM
    trap 'kill $! 2>/dev/null || true; cmd_down' EXIT
    tail -n 0 -q -F "$base/postgres.log" "$home/relay.log" "$home/demo.log" &
    wait $!
}

cmd_down() {
    [[ ${1:-} == '' || ${1:-} == --delete ]] || die "down takes --delete or nothing, not $1"
    [[ -e $home ]] || return 0
    stop demo
    stop relay
    if open_home; then
        need_postgres
        stop_cluster
    fi
    [[ ${1:-} == --delete ]] || return 0
    if [[ -n ${base:-} ]]; then rm -rf "$base" "$sock"; fi
    rm -rf "$home"/{cluster,lock,ports,secret,migrated,{initdb,migrate,relay,demo}.log}
    rmdir --ignore-fail-on-non-empty "$home"
}

cmd_status() {
    local all=0
    part() { # $1: name, $2: is it up, $3: where
        if [[ $2 == 0 ]]; then printf '%-9s up    %s\n' "$1" "$3"; else printf '%-9s down  %s\n' "$1" "$3"; all=1; fi
    }
    code() { if "$@"; then echo 0; else echo 1; fi; }
    if open_home; then need_postgres; fi
    part postgres "$(code cluster_is_up)" "port $AFTER_HOURS_PG_PORT, socket ${sock:-not created yet}"
    part relay "$(is_running relay && code http_ok "$RELAY_ADMIN_PORT" /readyz)" \
        "ws://127.0.0.1:$RELAY_PORT/ws, admin http://127.0.0.1:$RELAY_ADMIN_PORT"
    part page "$(is_running demo && code http_ok "$DEMO_PORT" /)" "http://127.0.0.1:$DEMO_PORT/"
    return $all
}

cmd_demo() {
    local name ports
    need_venv base
    read -ra ports < <("$venv/bin/python" -c '
from socket import socket
probes = [socket() for _ in range(4)]
for probe in probes: probe.bind(("127.0.0.1", 0))
print(*(probe.getsockname()[1] for probe in probes))')
    for name in DEMO_PORT RELAY_ADMIN_PORT RELAY_PORT AFTER_HOURS_PG_PORT; do
        printf -v "$name" '%s' "${ports[0]}"
        ports=("${ports[@]:1}")
    done
    home=$(mktemp -d /tmp/after-hours-demo-XXXXXX)
    trap 'exit 130' INT TERM
    trap 'cmd_down --delete' EXIT
    say "creating an instance for the demo in $home"
    cmd_cluster
    start_relay
    AFTER_HOURS_DSN=$(dsn postgres) DEMO_DSN=$(dsn after_hours_app) RELAY_JWT_SECRET=$(<"$home/secret") \
        RELAY_PORT=$RELAY_PORT "$venv/bin/python" -m demo.scenario
}

cmd_token() {
    (($# == 1)) || die "name a user: ./dev token USER_ID (a uuid)"
    need_instance
    token "$1"
}
