create or replace function after_hours._assert_tables()
returns void
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_problem text;
begin
    -- Purpose: refuse to read the application's tables if one is something else: their owner may put a view in its place, whose
    --          functions would run with the rights of the reader, or add children. Called after they are locked: then it stays as it is.
    -- Returns: nothing, or raises AH047.
    -- Locks:   none; reads the catalog.
    -- Access:  after_hours_jobs.
    select string_agg(format('public.%s is %s', w.tab, case
        when c.oid is null then 'missing'
        when c.relkind = 'v' then 'a view'
        when c.relkind = 'r' then 'a table with children'
        when c.relkind = 'p' then 'partitioned'
        else 'of another kind' end), ', ')
    into v_problem
    from (values ('after_hours_sessions'), ('after_hours_matches'), ('after_hours_messages')) as w (tab)
    left join pg_class as c on c.relname = w.tab and c.relnamespace = (select n.oid from pg_namespace as n where n.nspname = 'public')
    where c.oid is null
        or c.relkind <> 'r' and not (c.relkind = 'p' and w.tab = 'after_hours_messages')
        or c.relkind = 'r' and c.relhassubclass and exists (select from pg_inherits as i where i.inhparent = c.oid);
    if v_problem is not null then
        raise exception using
            errcode = 'AH047',
            message = v_problem || ': nothing is read, announced or purged',
            hint = 'Their owner has to put the plain table back; then all goes on by itself.';
    end if;
end
$$;
comment on function after_hours._assert_tables() is
'Raises AH047 if one of the application''s tables is no plain table any more (messages may be partitioned). Internal, after their lock.';
alter function after_hours._assert_tables() owner to after_hours_owner;
revoke all on function after_hours._assert_tables() from public;
grant execute on function after_hours._assert_tables() to after_hours_jobs;
