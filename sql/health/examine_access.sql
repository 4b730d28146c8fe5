create or replace function after_hours.examine_access()
returns table (subject text, ok boolean, finding text, advice text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: what our roles need and do not have, as rows of doctor().
    -- Returns: a row each, or one that is ok.
    -- Locks:   none; reads the catalog.
    -- Access:  internal.
    with missing as materialized (select m.* from after_hours.list_missing() as m)

    select 'access to ' || m.object, false, 'missing: ' || m.missing, m.next_command
    from missing as m
    union all
    select 'access', true, 'our roles have all rights, tables and columns that they need', null
    where not exists (select from missing);
$$;
comment on function after_hours.examine_access() is
'The rows of list_missing() as doctor() shows them. Internal, used by doctor().';
alter function after_hours.examine_access() owner to after_hours_owner;
revoke all on function after_hours.examine_access() from public;
