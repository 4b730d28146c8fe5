create or replace function after_hours.check_not_purged()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_failures record;
begin
    -- Purpose: check that no overdue match failed to be deleted.
    -- Returns: one row.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    check_name := 'not_purged';
    select count(*) as n, min(f.first_at) as first_at, (array_agg(f.message))[1] as message
    into v_failures
    from after_hours.purge_failures as f
    where f.sqlstate not in ('23503', '23001'); -- no fault: a row of the application references the match
    ok := v_failures.n = 0;
    detail := case
        when ok then 'no deletion of an overdue match has failed'
        else format('%s overdue matches could not be deleted since %s: %s',
            v_failures.n, after_hours.iso_utc(v_failures.first_at), left(v_failures.message, 200))
    end;
    next_command := case when not ok then 'select * from after_hours.not_purged;' end;
    return next;
end
$$;
comment on function after_hours.check_not_purged() is
'Health check: overdue matches whose deletion raised an error. Read it as view after_hours.health.';
alter function after_hours.check_not_purged() owner to after_hours_owner;
revoke all on function after_hours.check_not_purged() from public;
grant execute on function after_hours.check_not_purged() to after_hours_dba;
