# shellcheck shell=bash
# The README's commands on a Debian release on which nothing is installed yet. Sourced by ./dev.

declare -A bare_releases=([12]=bookworm [13]=trixie)

# What runs inside, in one process tree: ./dev up leaves servers behind, which end with it.
# shellcheck disable=SC2016 # expanded inside
bare_script='
failed=0
step() { # $1: a name, $2…: a command of ./dev
    local name=$1 began=$SECONDS status=0
    shift
    ./dev "$@" || status=$?
    printf "bare: ./dev %-6s %4d s, exit %d\n" "$name" $((SECONDS - began)) $status >>.local/bare.txt
    ((status == 0)) || failed=1
}
mkdir -p .local
step up up --detach
step demo demo
step down down
step test test "$@"
exit $failed'

cmd_bare() {
    local version=${1:-} release root status=0
    [[ -n $version && -n ${bare_releases[$version]:-} ]] || die "name a release of Debian: ./dev bare 12 or ./dev bare 13"
    shift
    ((EUID == 0)) || die "the root is made with debootstrap and entered with chroot: run it as root"
    need_packages git
    [[ -z $(git -C "$repo" status --porcelain) ]] || say "only what is committed is tested"
    release=${bare_releases[$version]}
    make_root "$release-bare" "$release"
    # A copy each time, so that the next run starts bare again. Beside others: two runs do not meet.
    root=bare.$$
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf --one-file-system '$roots_home/$root'" EXIT
    cp -a "$roots_home/$release-bare" "$roots_home/$root"
    copy_repository "$root"
    in_root "$root" bash -c "$bare_script" bash "$@" || status=$?
    cat "$roots_home/$root/root/after-hours/.local/bare.txt" || true
    return $status
}
