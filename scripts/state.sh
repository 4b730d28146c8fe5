# shellcheck shell=bash
# The state directory of an instance: its ports, its cluster's directory, its secret. Sourced by ./dev.

# Set the port variables: from the environment, else from the last start of this instance, else the defaults.
read_ports() {
    local name value
    if [[ -e $home/ports ]]; then
        while IFS='=' read -r name value; do
            [[ -n ${!name:-} ]] || printf -v "$name" '%s' "$value"
        done < <(grep -E '^(AFTER_HOURS_PG|RELAY|RELAY_ADMIN|DEMO)_PORT=[0-9]+$' "$home/ports")
    fi
    : "${AFTER_HOURS_PG_PORT:=54329}" "${RELAY_PORT:=8787}" "${RELAY_ADMIN_PORT:=8788}" "${DEMO_PORT:=8789}"
    for name in AFTER_HOURS_PG_PORT RELAY_PORT RELAY_ADMIN_PORT DEMO_PORT; do
        if [[ ! ${!name} =~ ^[1-9][0-9]{0,4}$ ]] || ((${!name} > 65535)); then
            die "$name=${!name} is not a port number"
        fi
    done
}

write_ports() {
    local name
    for name in AFTER_HOURS_PG_PORT RELAY_PORT RELAY_ADMIN_PORT DEMO_PORT; do echo "$name=${!name}"; done >"$home/ports"
}

# Open an existing instance: set base (directory of the cluster), pgdata, dbuser (OS user of the server), sock (socket
# directory). Returns 1 if there is none.
open_home() {
    read_ports
    [[ -e $home/cluster ]] || return 1
    base=$(readlink -f "$home/cluster")
    pgdata=$base/data
    dbuser=$(stat -c %U "$base")
    [[ $EUID == 0 || $dbuser == "$me" ]] ||
        die "the instance in $home belongs to $dbuser, you are $me; set AFTER_HOURS_HOME to another directory"
    sock=$(<"$base/socket-directory")
}

# Create the state directory if it is missing, and lock it (file descriptor 9) until the command ends.
make_home() {
    if ! mkdir -p "$home" 2>/dev/null || [[ ! -w $home ]]; then
        die "the state directory $home is not writable for $me; set AFTER_HOURS_HOME to one that is"
    fi
    exec 9>"$home/lock" # background processes must not inherit the lock: each is started with 9>&-
    flock -w 300 9 || die "another ./dev has been busy with $home for five minutes"
    if ! open_home; then
        need_postgres
        dbuser=$me
        base=$home/cluster
        if ((EUID == 0)); then # postgres does not run as root
            dbuser=postgres
            chmod a+x "$home"
            if (cd / && runuser -u "$dbuser" -- test -x "$home"); then
                install -d -o "$dbuser" -m 755 "$base"
            else
                base=/var/lib/after-hours/$(printf %s "$home" | sha256sum | cut -c 1-8)
                install -d -m 755 /var/lib/after-hours
                install -d -o "$dbuser" -m 755 "$base"
                ln -s "$base" "$home/cluster"
            fi
        else
            mkdir -m 755 "$base"
        fi
        pgdata=$base/data
        sock=$base/socket
        # The path of a socket has at most 107 bytes, and it stands unquoted in connection strings.
        if ((${#sock} > 85)) || [[ $sock =~ [^A-Za-z0-9._/+-] ]]; then
            sock=$(as_dbuser mktemp -d /tmp/after-hours-XXXXXX)
        fi
        as_dbuser tee "$base/socket-directory" <<<"$sock" >/dev/null
        as_dbuser tee "$base/version" <<<"$pgversion" >/dev/null
    fi
    [[ -d $sock ]] || as_dbuser mkdir -m 755 "$sock"
    as_dbuser chmod 755 "$sock"
    if [[ ! -e $home/secret ]]; then
        # The relay rejects secrets with this prefix on addresses other than loopback.
        (umask 077 && printf 'development-only-%s\n' "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" >"$home/secret")
    fi
}

need_instance() {
    open_home || die "there is no instance in $home; start one with ./dev up"
    need_postgres
}
