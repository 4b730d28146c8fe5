create or replace function after_hours.doctor()
returns table (subject text, ok boolean, finding text, advice text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: everything that can be examined by SQL: server, pg_cron, roles, the application's schema, vacuum.
    --          health shows what fails now; doctor also shows what will fail.
    -- Returns: a row per subject, failed ones first.
    -- Locks:   none; reads the catalog.
    -- Access:  after_hours_dba.
    return query
    with found as (
        select s.* from after_hours.examine_server() as s
        union all
        select e.* from after_hours.list_exposures() as e
        union all
        select
            format('%s %s', t.kind, t.name), not t.is_red, format('on %s: %s', t.on_table, t.effect), t.detail
        from after_hours.list_dependencies() as t
        union all
        select
            'vacuum of ' || c.oid::regclass, w.is_tuned, coalesce(array_to_string(c.reloptions, ', '), 'the server''s defaults'),
            case when not w.is_tuned then
                format('alter table %s set (autovacuum_vacuum_scale_factor = 0.02);', c.oid::regclass)
            end
        from pg_class as c
        cross join lateral (
            select coalesce(array_to_string(c.reloptions, ',') ~ 'autovacuum_vacuum_scale_factor', false)
                or c.reltuples < 100000 as is_tuned
        ) as w
        where c.oid = any(array['public.after_hours_sessions', 'public.after_hours_matches', 'public.after_hours_messages']::regclass[])
        union all
        select
            'index ' || i.indexrelid::regclass, false, 'invalid: a CREATE INDEX CONCURRENTLY was interrupted',
            format('reindex index concurrently %s;', i.indexrelid::regclass)
        from pg_index as i
        where i.indrelid = any(array['public.after_hours_sessions', 'public.after_hours_matches',
            'public.after_hours_messages']::regclass[])
            and not i.indisvalid
        union all
        select h.check_name, h.ok, h.detail, h.next_command from after_hours.check_schema() as h
    )

    select f.subject, f.ok, f.finding, f.advice
    from found as f
    order by f.ok, f.subject;
end
$$;
comment on function after_hours.doctor() is
'Examines server, pg_cron, roles, settings, foreign keys and triggers of the application, vacuum and indexes, with '
'advice for each. Failed subjects come first.';
alter function after_hours.doctor() owner to after_hours_owner;
revoke all on function after_hours.doctor() from public;
grant execute on function after_hours.doctor() to after_hours_dba;
