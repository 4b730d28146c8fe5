# shellcheck shell=bash
# Roots of Debian releases, made by debootstrap and entered by chroot, for tests on other releases. Sourced by ./dev.

roots_home=${XDG_CACHE_HOME:-$HOME/.cache}/after-hours/chroots

# Print the address of the Debian archive that this machine's apt is set up with.
debian_archive() {
    local found
    find_archive() {
        # shellcheck disable=SC2016 # expanded by apt-get
        apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
            sed -nE 's,^Debian\|Debian\|(.*[^/])/*$,\1,p' | head -n 1
    }
    found=${AFTER_HOURS_DEBIAN_ARCHIVE:-$(find_archive)}
    if [[ -z $found ]]; then
        apt_refresh "apt knows no Debian archive"
        found=$(find_archive)
    fi
    [[ -n $found ]] || die "apt has no Debian archive here; set AFTER_HOURS_DEBIAN_ARCHIVE to the address of one"
    echo "$found"
}

# Make the root of a Debian release with nothing in it but certificates, unless it is there. $1: name, $2: release
make_root() {
    local root=$roots_home/$1 release=$2 archive
    [[ -e $root ]] && return 0
    need_packages debootstrap
    archive=$(debian_archive)
    say "making a root of Debian $release in $root"
    rm -rf "$root.new"
    mkdir -p "$roots_home"
    [[ -e /usr/share/debootstrap/scripts/$release ]] || die "this debootstrap does not know the release $release"
    debootstrap --variant=minbase --include=ca-certificates "$release" "$root.new" "$archive" >"$roots_home/$1.log" 2>&1 ||
        die "debootstrap failed: $(tail -n 3 "$roots_home/$1.log")"
    # What this machine needs to reach its archives: proxies, certificates. A mirror's copy of testing may be old.
    {
        apt-config dump | grep -E '^Acquire::(https?|Retries)\b' || true
        echo 'Acquire::Check-Valid-Until "false";'
    } >"$root.new/etc/apt/apt.conf.d/10after-hours"
    if [[ -d /usr/local/share/ca-certificates ]]; then
        cp -r /usr/local/share/ca-certificates "$root.new/usr/local/share/"
        chroot "$root.new" update-ca-certificates >/dev/null
    fi
    if [[ -e /etc/pip.conf ]]; then cp /etc/pip.conf "$root.new/etc/pip.conf"; fi
    mv "$root.new" "$root"
}

# Run a command in a root, in the copy of the repository. Its mounts and processes are in namespaces of their own: they
# end with the command, whatever ends it. $1: name
in_root() {
    local root=$roots_home/$1 name environment=()
    shift
    while read -r name; do environment+=("$name=${!name}"); done < <(
        compgen -e | grep -E '^(https?_proxy|no_proxy|HTTPS?_PROXY|NO_PROXY|.*_CA_?(CERTS|BUNDLE|INFO)|SSL_CERT_FILE|PIP_(CERT|DEFAULT_TIMEOUT|INDEX_URL|PROXY|TRUSTED_HOST)|AFTER_HOURS_PG_CRON)$'
    )
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
    # shellcheck disable=SC2016 # expanded by the inner shell
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" "${environment[@]}" \
        unshare --mount --propagation private --pid --fork --kill-child -- bash -ec '
            root=$1
            shift
            mount --rbind /dev "$root/dev"
            mount --rbind /sys "$root/sys"
            mount -t proc proc "$root/proc"
            status=0
            chroot "$root" sh -c "cd /root/after-hours && exec \"\$@\"" sh "$@" || status=$?
            exit $status # bash stays the first process: it reaps what is left behind' bash "$root" "$@" </dev/null
}

# Put the last commit into a root; .venv and .local of the run before stay. $1: name
copy_repository() {
    local copy=$roots_home/$1/root/after-hours
    [[ -d $copy ]] || git init --quiet "$copy"
    git -C "$copy" fetch --quiet --force "$repo" HEAD
    git -C "$copy" -c advice.detachedHead=false checkout --quiet --force FETCH_HEAD
    git -C "$copy" clean --quiet -fd
}
