create or replace function after_hours.examine_tables()
returns table (subject text, ok boolean, finding text, advice text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: examine the application's tables: owner, vacuum, indexes, inheritance.
    -- Returns: a row per table, one per invalid index, one per child or parent table.
    -- Locks:   none; reads the catalog.
    -- Access:  internal.
    with tables as (
        select c.*
        from pg_class as c
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
            and c.relname in ('after_hours_sessions', 'after_hours_matches', 'after_hours_messages')
    )

    select
        'vacuum of ' || c.oid::regclass, w.is_tuned, coalesce(array_to_string(c.reloptions, ', '), 'the server''s defaults'),
        case when not w.is_tuned then
            format('alter table %s set (autovacuum_vacuum_scale_factor = 0.02);', c.oid::regclass)
        end
    from tables as c
    cross join lateral (
        select coalesce(array_to_string(c.reloptions, ',') ~ 'autovacuum_vacuum_scale_factor', false)
            or c.reltuples < 100000 as is_tuned
    ) as w
    union all
    select
        'owner of ' || c.oid::regclass, true,
        format('%s: a service that connects as this role is bound by no grant of ours, see SECURITY.md', c.relowner::regrole), null
    from tables as c
    union all
    select
        'index ' || i.indexrelid::regclass, false, 'invalid: a CREATE INDEX CONCURRENTLY was interrupted',
        format('reindex index concurrently %s;', i.indexrelid::regclass)
    from pg_index as i
    join tables as c on c.oid = i.indrelid
    where not i.indisvalid
    union all
    select
        format('inheritance of %s', c.oid::regclass), false, format('%s inherits %s: rows of two tables are read as one''s',
            h.inhrelid::regclass, h.inhparent::regclass),
        format('alter table %s no inherit %s;', h.inhrelid::regclass, h.inhparent::regclass)
    from pg_inherits as h
    join tables as c on c.oid in (h.inhrelid, h.inhparent) and c.relkind = 'r';
$$;
comment on function after_hours.examine_tables() is
'Vacuum settings of the application''s tables, and their invalid indexes. Internal, used by doctor().';
alter function after_hours.examine_tables() owner to after_hours_owner;
revoke all on function after_hours.examine_tables() from public;
