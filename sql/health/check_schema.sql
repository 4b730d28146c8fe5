create or replace function after_hours.check_schema()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invalid text;
    v_drift text;
begin
    -- Purpose: checks that routines, views and indexes are as sql/ created them.
    -- Returns: one row per check.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    select string_agg(format('%s %s: %s', d.kind, d.identity, d.drift), ', ') into v_drift from after_hours.sql_drift as d;
    check_name := 'sql_drift';
    ok := v_drift is null;
    detail := coalesce(v_drift, 'routines and views are as sql/ created them');
    next_command := case when not ok then 'alembic upgrade head (or psql -1 -f sql/install.sql) restores them' end;
    return next;

    select string_agg(w.name, ', ')
    into v_invalid
    from (
        values
        ('after_hours_sessions_end_idx'), ('after_hours_sessions_warning_idx'),
        ('after_hours_sessions_user_idx'), ('after_hours_matches_overdue_idx')
    ) as w (name)
    where not exists (
        select from pg_index as i where i.indexrelid = to_regclass('public.' || w.name) and i.indisvalid
    );
    check_name := 'indexes';
    ok := v_invalid is null;
    detail := coalesce('missing or invalid: ' || v_invalid, 'all indexes exist and are valid');
    next_command := case when not ok then
        format('drop index concurrently if exists public.%s; then run sql/changes/0002_indexes.sql again with psql',
            split_part(v_invalid, ',', 1))
    end;
    return next;
end
$$;
comment on function after_hours.check_schema() is
'Health checks of the schema: drift and indexes. Read them as view after_hours.health.';
alter function after_hours.check_schema() owner to after_hours_owner;
revoke all on function after_hours.check_schema() from public;
grant execute on function after_hours.check_schema() to after_hours_dba;
