create or replace function after_hours.delete_rows(p_match_ids uuid[], p_messages bigint, out messages bigint[], out matches bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_count bigint;
begin
    -- Purpose: the DELETEs of the purge, as a role with few other rights: triggers, rules and expressions of the tables'
    --          owner run with the rights of this function's owner.
    -- Returns: matches: how many were deleted; messages: per match of p_match_ids, only if p_messages (their counted
    --          total) is null. Raises AH014 if p_messages differs from what was deleted, AH016 if code of the
    --          application changed settings of this database session; the caller's handler then undoes all deletes.
    -- Locks:   expects the matches locked FOR UPDATE; takes the message rows.
    -- Access:  internal.
    -- step 5a: messages first: the foreign key has no cascade, so that no message is deleted uncounted
    if p_messages is not null then
        delete from public.after_hours_messages as g where g.match_id = any(p_match_ids);
        get diagnostics v_count = row_count;
        if v_count <> p_messages then
            raise exception using
                errcode = 'AH014',
                message = 'the application deleted messages at the same time, or a trigger kept some',
                hint = 'select * from after_hours.list_dependencies() where kind = ''trigger'';';
        end if;
    else
        with gone as (
            delete from public.after_hours_messages as g where g.match_id = any(p_match_ids)
            returning g.match_id
        ),

        counted as (select g.match_id, count(*) as n from gone as g group by g.match_id)

        select array_agg(coalesce(c.n, 0) order by i.nr)
        into messages
        from unnest(p_match_ids) with ordinality as i (id, nr)
        left join counted as c on c.match_id = i.id;
    end if;
    -- step 5b: the matches
    delete from public.after_hours_matches as m where m.id = any(p_match_ids);
    get diagnostics matches = row_count;
    -- step 5c: deferred keys and triggers of the application fire here, as this role. At the caller's COMMIT they
    -- would fire outside every handler and with the rights of the role that runs the purge.
    set constraints all immediate;
    -- Their code may have called set_config(): the caller would then find functions in schemas that they choose.
    if pg_catalog.current_setting('search_path') operator(pg_catalog.<>) 'pg_catalog, pg_temp'
        or pg_catalog.current_setting('row_security') operator(pg_catalog.<>) 'off' then
        raise exception using
            errcode = 'AH016',
            message = 'a trigger of the application changed search_path or row_security of the purge',
            hint = 'select * from after_hours.list_dependencies() where kind = ''trigger'';';
    end if;
end
$$;
comment on function after_hours.delete_rows(uuid[], bigint) is
'The DELETEs of delete_matches(), run as after_hours_eraser. Returns deleted matches, and messages per match unless '
'their total was given. Errors AH014, AH016.';
-- ALTER OWNER requires that the new owner may create in the schema: granted for this statement only
grant create on schema after_hours to after_hours_eraser;
alter function after_hours.delete_rows(uuid[], bigint) owner to after_hours_eraser;
revoke create on schema after_hours from after_hours_eraser;
revoke all on function after_hours.delete_rows(uuid[], bigint) from public;
grant execute on function after_hours.delete_rows(uuid[], bigint) to after_hours_owner;
