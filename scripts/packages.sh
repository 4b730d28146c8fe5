# shellcheck shell=bash
# Installs what is missing: Debian packages, PostgreSQL with pg_cron, the Python environment. Sourced by ./dev.

# Run a command as root; used for apt only. $1: the reason, for the error message.
as_root() {
    local why=$1
    shift
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "$why" "you are not root and there is no sudo: have an administrator install that, then try again"
    fi
}

apt_refreshed=
apt_refresh() { # $1: the reason, for the error message
    [[ -z $apt_refreshed ]] || return 0
    command -v apt-get >/dev/null ||
        die "$1" "there is no apt-get here: install it with the package manager of your system, then try again"
    as_root "$1" apt-get -qq -o DPkg::Lock::Timeout=300 update </dev/null >&2 ||
        die "$1" "the package lists could not be refreshed; the message is above"
    apt_refreshed=yes
}

# Install the named Debian packages that are missing.
need_packages() {
    local name missing=()
    for name in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
    done
    ((${#missing[@]})) || return 0
    local why="these packages are missing: ${missing[*]}"
    apt_refresh "$why"
    say "installing ${missing[*]}"
    # Without this file a server package also creates and starts a cluster "main" on port 5432.
    local quiet=/etc/postgresql-common/createcluster.d/after-hours-dev.conf log
    log=$(mktemp)
    # shellcheck disable=SC2016 # expanded by the inner shell
    as_root "$why" sh -ec '
        conf=$1; shift
        mkdir -p "$(dirname "$conf")"
        echo "create_main_cluster = false" >"$conf"
        trap "rm -f \"$conf\"" EXIT
        DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
            install -y --no-install-recommends "$@"' sh "$quiet" "${missing[@]}" </dev/null >"$log" 2>&1 ||
        die "$why" "apt-get could not install them: $(tail -n 10 "$log")" "full log: $log"
    rm "$log"
}

has_server() { [[ -x /usr/lib/postgresql/$1/bin/initdb ]]; }
has_cron() { [[ -e /usr/share/postgresql/$1/extension/pg_cron.control ]]; }

# Set pgversion and pgbin: PostgreSQL 15 or later with pg_cron. Installs them if necessary.
need_postgres() {
    local v found=() offered
    if [[ -n ${base:-} && -e $base/version ]]; then
        pgversion=$(<"$base/version")
        if has_server "$pgversion" && has_cron "$pgversion"; then
            pgbin=/usr/lib/postgresql/$pgversion/bin
            return 0
        fi
        need_packages "postgresql-$pgversion" "postgresql-$pgversion-cron"
    fi
    pgversion=
    for v in $(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -rn); do
        has_server "$v" && found+=("$v")
        if [[ -z $pgversion ]] && ((v >= 15)) && has_server "$v" && has_cron "$v"; then pgversion=$v; fi
    done
    if [[ -z $pgversion ]]; then
        local why="PostgreSQL 15 or later is needed, with pg_cron; found here: ${found[*]:-no PostgreSQL}"
        apt_refresh "$why"
        offered=$(apt-cache pkgnames postgresql- | sed -nE 's/^postgresql-([0-9]+)-cron$/\1/p' | sort -rn)
        # Prefer an installed server, which lacks only the extension; otherwise take the newest version available.
        for v in "${found[@]}" $offered; do
            if ((v >= 15)) && grep -qx "$v" <<<"$offered"; then
                pgversion=$v
                break
            fi
        done
        [[ -n $pgversion ]] || die "$why" \
            "this distribution offers pg_cron for: ${offered:-no version}" \
            "use Debian 12, Ubuntu 24.04 or later, or add the PostgreSQL project's own package source (wiki.postgresql.org/wiki/Apt)"
        need_packages "postgresql-$pgversion" "postgresql-$pgversion-cron"
    fi
    pgbin=/usr/lib/postgresql/$pgversion/bin
}

# Create or update the virtual environment with the versions of constraints.txt. $1: base, or test for tests and lint.
need_venv() {
    local wanted=$1 target=. stamp python candidate
    [[ $wanted == base ]] || target=".[$wanted]"
    stamp=$(cat "$repo/pyproject.toml" "$repo/constraints.txt" | sha256sum | cut -c 1-16)
    if [[ -x $venv/bin/python && $(cat "$venv/stamp-$wanted" 2>/dev/null) == "$stamp" ]]; then return 0; fi
    [[ -w $repo ]] || die "$repo is not writable for $me, but the Python environment is created there; use your own clone"
    exec 8<"$repo/pyproject.toml"
    flock 8
    if [[ ! -x $venv/bin/python ]] || ! "$venv/bin/python" -c '' 2>/dev/null; then
        for candidate in python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do
            if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
                python=$candidate
                break
            fi
        done
        if [[ -z ${python:-} ]]; then
            if command -v python3 >/dev/null; then
                die "Python 3.11 or later is needed, and this is $(python3 --version 2>&1)" \
                    "install a newer python3 (with its venv module) into your PATH, then try again"
            fi
            need_packages python3 python3-venv
            python=/usr/bin/python3
        elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            need_packages python3-venv
        fi
        rm -rf "$venv"
        "$python" -m venv "$venv" || die "$python could not create a virtual environment; its message is above"
    fi
    say "installing the Python packages ($wanted)"
    (cd "$repo" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        -c constraints.txt -e "$target") || die "pip could not install them; its message is above"
    echo "$stamp" >"$venv/stamp-$wanted"
    [[ $wanted == base ]] || echo "$stamp" >"$venv/stamp-base"
    exec 8>&-
}

find_tool() { PATH=$PATH:/usr/sbin:$repo/.local/tools/usr/bin:$repo/.local/tools/usr/sbin command -v "$1"; }

# A program that only tests run, unpacked from Debian's package: installing the package would also start a server.
# $1: program, $2…: packages that may hold it; the releases of Debian differ.
need_tool() {
    local program=$1 tools=$repo/.local/tools
    shift
    find_tool "$program" >/dev/null && return 0
    fetch() { # the first package that holds it
        local package
        for package in "$@"; do
            (cd "$tools" && apt-get -qq download "$package" && dpkg-deb -x "$package"_*.deb . && rm "$package"_*.deb) >/dev/null 2>&1 || continue
            if find_tool "$program" >/dev/null; then return 0; fi
        done
        return 1
    }
    say "fetching $program"
    mkdir -p "$tools"
    fetch "$@" || { apt_refresh "the tests need $program" && fetch "$@"; } ||
        die "the tests need $program, and none of these packages of your distribution has brought it: $*" \
            "install $program yourself, so that it is in the PATH, then try again"
}
