# shellcheck shell=bash
# Lint and tests. Sourced by ./dev.

# Most of a test is waiting: three at a time. A file stays in one process, which shares its instances, and the files that
# take longest come first.
parallel=(-n 3 --dist loadfile --no-loadscope-reorder)

cmd_test() {
    need_postgres
    need_packages "postgresql-$pgversion-pgtap" libtap-parser-sourcehandler-pgtap-perl
    need_packages pgbouncer libfaketime iproute2 libatomic1 # the last for the Node.js that Playwright brings
    command -v curl >/dev/null || need_packages curl # the example of docs/protocol.md
    command -v chromium chromium-browser google-chrome >/dev/null || need_packages chromium # tests of the demo page and the ops page
    command -v npm >/dev/null || need_packages npm # with Node.js: tests of the browser client and the Socket.IO bridge
    command -v systemd-analyze >/dev/null || need_packages systemd # checks the units of docs/systemd
    need_tool promtool promtool prometheus
    need_tool nginx nginx
    cmd_lint
    export AFTER_HOURS_PGBIN=$pgbin
    exec "$venv/bin/python" -m pytest "${parallel[@]}" "$@"
}
