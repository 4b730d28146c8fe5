create or replace function after_hours.check_sql_drift()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_drift text;
begin
    -- Purpose: check that routines and views are as sql/ created them.
    -- Returns: one row.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    check_name := 'sql_drift';
    select string_agg(format('%s %s: %s', d.kind, d.identity, d.drift), ', ') into v_drift from after_hours.sql_drift as d;
    ok := v_drift is null;
    detail := coalesce(v_drift, 'routines and views are as sql/ created them');
    next_command := case when not ok then 'alembic upgrade head (or psql -1 -f sql/install.sql) restores them' end;
    return next;
end
$$;
comment on function after_hours.check_sql_drift() is
'Health check: routines and views edited by hand. Read it as view after_hours.health.';
alter function after_hours.check_sql_drift() owner to after_hours_owner;
revoke all on function after_hours.check_sql_drift() from public;
grant execute on function after_hours.check_sql_drift() to after_hours_dba;
