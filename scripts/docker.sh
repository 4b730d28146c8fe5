# shellcheck shell=bash
# The containers, tried on a Docker engine of their own. Sourced by ./dev.

docker_packages=(docker.io containerd runc tini)

# Unpack Debian's engine beside the repository: installing it would start one for the whole machine. Sets PATH.
need_docker() {
    local engine=$repo/.local/docker
    need_packages iptables # containers find one another's names by it
    if [[ ! -x $engine/usr/sbin/dockerd ]]; then
        say "fetching a Docker engine"
        rm -rf "$engine"
        mkdir -p "$engine"
        (cd "$engine" && apt-get -qq download "${docker_packages[@]}" && for each in *.deb; do dpkg-deb -x "$each" .; done && rm ./*.deb) \
            >/dev/null 2>&1 || die "apt-get could not fetch ${docker_packages[*]}"
    fi
    export PATH=$engine/usr/bin:$engine/usr/sbin:$PATH
}

start_docker() { # $1: directory for everything it writes
    local tick
    export DOCKER_HOST=unix://$1/socket
    # No rule of this machine's firewall is changed: ports are published by a proxy, builds use the machine's network.
    dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" -H "$DOCKER_HOST" --iptables=false --ip6tables=false \
        --bip 172.31.250.1/24 >"$1/log" 2>&1 &
    for ((tick = 0; tick < 100; tick++)); do
        if docker version >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    die "the Docker engine did not start: $(tail -n 3 "$1/log")"
}

stop_docker() { # $1: its directory
    compose down --volumes --timeout 5 >/dev/null 2>&1 || true
    kill "$(cat "$1/pid")" 2>/dev/null || true
    wait
    rm -rf "$1"
}

compose() { "$venv/bin/docker-compose" -f "$repo/docker/compose.yaml" "$@"; }

# Wait until the client has printed a line. $1: pattern, $2: seconds, $3: file
await_line() {
    local tick
    for ((tick = 0; tick < $2 * 5; tick++)); do
        if grep -q "$1" "$3"; then return 0; fi
        sleep 0.2
    done
    die "no $1 within $2 s; the client has: $(tail -n 3 "$3")" "the relay says: $(compose logs --tail 5 relay 2>&1)"
}

app() { # $1: a query, as the application
    PGPASSWORD=$AFTER_HOURS_APP_PASSWORD psql -XAtq -v ON_ERROR_STOP=1 \
        "host=127.0.0.1 port=$AFTER_HOURS_PG_PORT user=after_hours_app dbname=after_hours" -c "$1"
}

cmd_docker() {
    local name scratch session user=0a0a0a0a-0000-4000-8000-00000000000a image
    ((EUID == 0)) || die "a Docker engine of its own is started: run it as root"
    need_packages debootstrap postgresql-client
    need_venv test
    need_docker
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064 # the directory of now
    trap "stop_docker $scratch" EXIT
    start_docker "$scratch"
    roots_home=${XDG_CACHE_HOME:-$HOME/.cache}/after-hours/docker
    make_root trixie trixie
    tar -C "$roots_home/trixie" --exclude='./proc/*' --exclude='./sys/*' -c . | docker import - debian:trixie-slim >/dev/null
    for image in postgres relay; do
        say "building after-hours-$image"
        docker build --network host --quiet -t "after-hours-$image" -f "docker/$image/Dockerfile" . >/dev/null
    done
    for name in POSTGRES_PASSWORD AFTER_HOURS_RELAY_PASSWORD AFTER_HOURS_APP_PASSWORD RELAY_JWT_SECRET; do
        export "$name=of-this-test-alone-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
    done
    AFTER_HOURS_PG_PORT=$((20000 + RANDOM % 10000)) RELAY_PORT=$((30000 + RANDOM % 2000))
    export AFTER_HOURS_PG_PORT RELAY_PORT
    compose up --detach --no-build --wait >"$scratch/up" 2>&1 || die "compose up failed: $(tail -n 5 "$scratch/up")"

    export RELAY_TOKEN
    RELAY_TOKEN=$("$venv/bin/python" -c "import jwt, os, time; print(jwt.encode(
        {'sub': '$user', 'aud': 'after-hours', 'iat': time.time(), 'exp': time.time() + 3600}, os.environ['RELAY_JWT_SECRET']))")
    "$venv/bin/after-hours" tail "ws://127.0.0.1:$RELAY_PORT/ws" --all >"$scratch/frames" 2>&1 &
    await_line '"hello"' 10 "$scratch/frames"
    session=$(app "select id from after_hours.start_session('$user', '110 seconds')")
    await_line session_expiring 70 "$scratch/frames" # pg_cron starts a new job at the next full minute
    say "warned; restarting relay, then PostgreSQL"
    compose restart relay >/dev/null 2>&1
    compose restart postgres >/dev/null 2>&1
    compose up --detach --no-build --wait >/dev/null 2>&1
    app "select after_hours.end_session('$session', 'user')" >/dev/null
    await_line session_expired 70 "$scratch/frames"
    (($(grep -c session_expiring "$scratch/frames") == 1)) || die "the warning was told more than once"
    compose down --volumes >/dev/null 2>&1
    [[ -z $(docker volume ls -q) ]] || die "compose down --volumes left $(docker volume ls -q)"
    say "built, started, warned, restarted, told the end, removed"
}
