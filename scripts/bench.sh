# shellcheck shell=bash
# Benchmarks and the long fault matrix. Sourced by ./dev.

# Run a program of tests/, which starts its own instances. $1: module below tests.
run_tool() {
    local tool=$1
    shift
    need_postgres
    need_venv test
    cd "$repo"
    "$venv/bin/python" -m "tests.$tool" "$@"
}

cmd_bench() {
    local name=${1:-}
    [[ -n $name && -e $repo/tests/bench/$name.py ]] || die "name a benchmark: ./dev bench announce | locks | purge | reconnect | relay"
    shift
    if [[ $name == announce ]]; then need_packages redis-server; fi # for BullMQ, which is measured beside it
    run_tool "bench.$name" "$@"
    "$venv/bin/python" scripts/render.py
}

cmd_soak() { run_tool faults.soak "$@"; }
