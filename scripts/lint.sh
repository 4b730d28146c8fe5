# shellcheck shell=bash
# The static checks. Sourced by ./dev.

cmd_lint() {
    local check failed=0
    need_venv test
    need_packages shellcheck
    cd "$repo"
    run() {
        say "lint: $*"
        "$@" || failed=1
    }
    PATH=$venv/bin:$PATH
    run ruff check --quiet .
    run ruff format --quiet --check .
    run mypy --no-error-summary
    run shellcheck --external-sources --check-sourced dev .ci/run docker/postgres/start # scripts/*.sh by way of dev
    run sqlfluff lint --disable-progress-bar sql
    run hadolint docker/postgres/Dockerfile docker/relay/Dockerfile
    run env POSTGRES_PASSWORD=x AFTER_HOURS_RELAY_PASSWORD=x AFTER_HOURS_APP_PASSWORD=x RELAY_JWT_SECRET=x \
        docker-compose -f docker/compose.yaml config --quiet
    for check in tests/lint/*; do
        if [[ -f $check && -x $check ]]; then run "$check"; fi
    done
    ((failed == 0)) || die "lint failed; the findings are printed above"
}
