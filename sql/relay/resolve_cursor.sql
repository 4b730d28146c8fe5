create or replace function after_hours.resolve_cursor(p_cursor text, p_head bigint, p_floor bigint)
returns bigint
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
    v_limit bigint;
begin
    -- Purpose: the resume rule: the event id from which a client with this cursor can continue without a gap.
    -- Returns: the id (the client has missed every event after it), or null: continuity can't be guaranteed.
    -- Locks:   none.
    -- Access:  internal.
    if p_cursor is null or p_cursor !~ '^[0-9a-f]{8}-[0-9]{1,18}$' then
        return null;
    end if;
    v_id := substr(p_cursor, 10)::bigint;
    -- Of an earlier epoch only the ids that existed when the next one was opened are valid: later ones may have been issued
    -- again. While the next one is not yet opened (just promoted), head is the same bound.
    select least(p_head, (
        select n.last_id from after_hours.epochs as n where n.ordinal > e.ordinal order by n.ordinal limit 1
    ))
    into v_limit
    from after_hours.epochs as e
    where e.name = left(p_cursor, 8);
    if v_id between p_floor and v_limit then
        return v_id;
    end if;
    return null;
end
$$;
comment on function after_hours.resolve_cursor(text, bigint, bigint) is
'The event id that a cursor stands for, or null if a client can''t continue from it: malformed, unknown epoch, trimmed, '
'or an id that may have been issued again.';
alter function after_hours.resolve_cursor(text, bigint, bigint) owner to after_hours_owner;
revoke all on function after_hours.resolve_cursor(text, bigint, bigint) from public;
