# shellcheck shell=bash
# The tests on other versions of PostgreSQL, each in a Debian root of its own. Sourced by ./dev.

declare -A matrix_suites=([15]=bookworm [17]=trixie [18]=testing)
# What depends on the server's version or on how pg_cron starts jobs.
matrix_tests=(tests/sql tests/isolation tests/pgtap tests/e2e tests/faults/test_scheduler.py tests/faults/test_replica.py)
# pg_cron 1.4 with background workers announces by the minute: what needs the loops is left out there.
matrix_tests_tick=(tests/sql tests/isolation tests/pgtap tests/faults/test_replica.py
    --ignore=tests/sql/test_writes_that_do_not_take.py)
matrix_createrole='no_superuser or createrole'

# Run tests and write one row. $1: version, $2: jobs by (libpq or workers), $3: installer, $4…: the command
matrix_run() {
    local version=$1 suite=${matrix_suites[$1]} jobs=$2 installer=$3 report=.local/matrix.xml seconds=$SECONDS
    shift 3
    say "matrix: PostgreSQL $version, jobs by $jobs, installed as $installer"
    rm -f "$roots_home/$suite/root/after-hours/$report"
    AFTER_HOURS_PG_CRON=$jobs in_root "$suite" "$@" --junitxml="$report" || true
    [[ -e $roots_home/$suite/root/after-hours/$report ]] || die "the tests did not run to their end; see above"
    # shellcheck disable=SC2016 # expanded by dpkg-query
    "$venv/bin/python" scripts/matrix.py "$roots_home/$suite/root/after-hours/$report" "$version" \
        "$(in_root "$suite" dpkg-query -W -f '${Version}' "postgresql-$version")" \
        "$(in_root "$suite" dpkg-query -W -f '${Version}' "postgresql-$version-cron")" \
        "$jobs" "$installer" $((SECONDS - seconds))
}

cmd_matrix() {
    local version suite pytest modes mode tests
    ((EUID == 0)) || die "the roots are made with debootstrap and entered with chroot: run it as root"
    (($#)) || set -- 15 17 18
    for version in "$@"; do
        [[ -n ${matrix_suites[$version]:-} ]] || die "./dev matrix takes versions of: ${!matrix_suites[*]}"
    done
    need_packages git
    need_venv test
    [[ -z $(git -C "$repo" status --porcelain) ]] || say "only what is committed is tested"
    for version in "$@"; do
        suite=${matrix_suites[$version]}
        make_root "$suite" "$suite"
        copy_repository "$suite"
        modes=(workers libpq) # the one that ./dev up takes by itself comes first
        tests=("${matrix_tests[@]}")
        if ((version == 15)); then
            modes=(libpq workers)
            tests=("${matrix_tests_tick[@]}")
        fi
        # The first run is by the documented command: it installs what is missing.
        matrix_run "$version" "${modes[0]}" superuser ./dev test "${matrix_tests[@]}"
        pytest=(env "AFTER_HOURS_PGBIN=/usr/lib/postgresql/$version/bin" .venv/bin/python -m pytest)
        matrix_run "$version" "${modes[1]}" superuser "${pytest[@]}" "${parallel[@]}" "${tests[@]}"
        for mode in "${modes[@]}"; do
            matrix_run "$version" "$mode" CREATEROLE "${pytest[@]}" tests/sql/test_migrations.py -k "$matrix_createrole"
        done
    done
    "$venv/bin/python" scripts/render.py
}
