create or replace function after_hours.examine_dependencies()
returns table (subject text, ok boolean, finding text, advice text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: the application's foreign keys, triggers, rules and row security, as rows of doctor().
    -- Returns: a row each.
    -- Locks:   none; reads the catalog.
    -- Access:  internal.
    select format('%s %s', t.kind, t.name), not t.is_red, format('on %s: %s', t.on_table, t.effect), t.detail
    from after_hours.list_dependencies() as t;
$$;
comment on function after_hours.examine_dependencies() is
'The rows of list_dependencies() as doctor() shows them. Internal, used by doctor().';
alter function after_hours.examine_dependencies() owner to after_hours_owner;
revoke all on function after_hours.examine_dependencies() from public;
