# shellcheck shell=bash
# The PostgreSQL cluster of an instance: create, start, migrate, stop. Sourced by ./dev.

as_dbuser() {
    if [[ $dbuser == "$me" ]]; then "$@"; else (cd / && runuser -u "$dbuser" -- "$@"); fi
}

dsn() { echo "postgresql://$1@/after_hours?host=$sock&port=$AFTER_HOURS_PG_PORT"; }
pg() { PGHOST=$sock PGPORT=$AFTER_HOURS_PG_PORT PGUSER=postgres PGDATABASE=${database:-after_hours} "$pgbin/psql" "$@"; }
cluster_is_up() { [[ -n ${base:-} ]] && "$pgbin/pg_isready" -q -h "$sock" -p "$AFTER_HOURS_PG_PORT" -U postgres -d postgres; }

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
need_port() { # $1: name of the variable
    ! port_is_taken "${!1}" || die "port ${!1} is used by another program; set $1 to a free one"
}

write_config() {
    local user role cron="cron.host = '$sock'"
    # Background workers from pg_cron 1.5 on. In earlier versions one long job blocks all others in that mode, so jobs
    # use connections there. AFTER_HOURS_PG_CRON=libpq or workers overrides that, for ./dev matrix.
    local mode=workers
    if grep -q "default_version = '1\.[0-4]" "/usr/share/postgresql/$pgversion/extension/pg_cron.control"; then
        mode=libpq
    fi
    if [[ ${AFTER_HOURS_PG_CRON:-$mode} == workers ]]; then
        cron="cron.use_background_workers = on
cron.max_running_jobs = 16"
    fi
    as_dbuser tee "$pgdata/after_hours.conf" >/dev/null <<CONF
# Written by ./dev at every start.
listen_addresses = '127.0.0.1'
port = $AFTER_HOURS_PG_PORT
unix_socket_directories = '$sock'
shared_preload_libraries = 'pg_cron'
cron.database_name = 'after_hours'
$cron
client_connection_check_interval = '1s'
max_connections = 200
max_worker_processes = 24
max_wal_size = '2GB'
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
CONF
    as_dbuser tee "$pgdata/pg_hba.conf" >/dev/null <<CONF
# Written by ./dev at every start. No trust entries: the kernel identifies the caller of the socket (peer).
local all all peer map=dev
local replication postgres peer map=dev
host all all 127.0.0.1/32 scram-sha-256
CONF
    for user in $(printf '%s\n' "$dbuser" "$me" root postgres | sort -u); do
        for role in "${roles[@]}"; do echo "dev $user $role"; done
    done | as_dbuser tee "$pgdata/pg_ident.conf" >/dev/null
}

run_server() { # $1: start or restart
    local pid tick
    # pg_ctl takes a killed postmaster for a running one until init has reaped the zombie.
    pid=$(as_dbuser head -n 1 "$pgdata/postmaster.pid" 2>/dev/null || true)
    for ((tick = 0; tick < 100; tick++)); do
        [[ $(cut -d ' ' -f 3 "/proc/${pid:-none}/stat" 2>/dev/null) == Z ]] || break
        sleep 0.1
    done
    as_dbuser "$pgbin/pg_ctl" -D "$pgdata" -l "$base/postgres.log" -m fast -w -t 60 "$1" </dev/null >/dev/null 2>&1 9>&- ||
        die "PostgreSQL did not $1: $(as_dbuser tail -n 5 "$base/postgres.log")"
}

start_cluster() {
    need_postgres
    if ! cluster_is_up; then
        [[ -z $(postmaster) ]] ||
            die "this instance runs on another port or does not answer; stop it first with ./dev down"
        need_port AFTER_HOURS_PG_PORT
        if ! as_dbuser test -e "$pgdata/PG_VERSION"; then
            say "creating a PostgreSQL $pgversion cluster in $base"
            as_dbuser rm -rf "$pgdata.new"
            as_dbuser "$pgbin/initdb" -D "$pgdata.new" -U postgres -E UTF8 --locale=C.UTF-8 -k \
                --auth-local=peer --auth-host=scram-sha-256 >"$home/initdb.log" 2>&1 ||
                die "initdb failed: $(tail -n 3 "$home/initdb.log")"
            as_dbuser tee -a "$pgdata.new/postgresql.conf" <<<"include 'after_hours.conf'" >/dev/null
            as_dbuser mv "$pgdata.new" "$pgdata"
        fi
        write_config
        run_server start
        database=postgres pg -XAtqc "select 1 from pg_database where datname = 'after_hours'" | grep -q 1 ||
            database=postgres pg -Xqc "create database after_hours"
    fi
    write_ports
}

# Migrate if the files or the port (part of each cron job) have changed, or a migration was run without ./dev since.
# Applying sql/ again is safe, but it replaces every routine and adds a row to the ledger.
migrate() {
    local sources before
    sources=$(find sql alembic -name '*.sql' -o -name '*.py' | sort | xargs sha256sum | sha256sum | cut -c 1-16)
    before=$(ledger 2>/dev/null || true)
    if [[ $(cat "$home/migrated" 2>/dev/null) == "$sources $AFTER_HOURS_PG_PORT $before" ]]; then return 0; fi
    (cd "$repo" && AFTER_HOURS_DSN=$(dsn postgres) "$venv/bin/alembic" upgrade head) >"$home/migrate.log" 2>&1 ||
        die "the migration failed: $(tail -n 15 "$home/migrate.log")" "full log: $home/migrate.log"
    # pg_cron starts a new job at the next full minute; after a restart its @reboot job announces at once.
    [[ -n $before ]] || run_server restart
    echo "$sources $AFTER_HOURS_PG_PORT $(ledger)" >"$home/migrated"
}

ledger() { pg -XAtqc 'select max(id) from after_hours.sql_ledger'; }

# Print the pid of the running postmaster, or nothing. After a crash or a reboot the pid in the file may be that of
# another process; the working directory of a postmaster is its data directory.
postmaster() {
    local pid
    pid=$(as_dbuser head -n 1 "$pgdata/postmaster.pid" 2>/dev/null) || return 0
    if [[ $(as_dbuser readlink "/proc/$pid/cwd") == "$pgdata" ]]; then echo "$pid"; fi
}

stop_cluster() {
    local pid
    pid=$(postmaster)
    [[ -n $pid ]] || return 0
    as_dbuser "$pgbin/pg_ctl" -D "$pgdata" -m fast -w -t 60 stop >/dev/null ||
        die "PostgreSQL (pid $pid) did not stop within a minute; see $base/postgres.log"
}

cmd_cluster() {
    make_home
    need_venv base
    start_cluster
    migrate
}

cmd_psql() {
    need_instance
    cluster_is_up || die "the database is not running; start it with ./dev up"
    if (($# == 0)) && [[ -t 0 && -e $repo/sql/psql/menu.psql ]]; then export PSQLRC=$repo/sql/psql/menu.psql; fi
    PGHOST=$sock PGPORT=$AFTER_HOURS_PG_PORT PGUSER=postgres PGDATABASE=after_hours exec "$pgbin/psql" "$@"
}

cmd_dsn() {
    need_instance
    dsn postgres
}
