create or replace function after_hours.mark_sessions(p_type text, p_ids uuid[])
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
begin
    -- Purpose: the UPDATE of emit_events(), as a role with few other rights: triggers, rules and expressions of the
    --          table's owner run with the rights of this function's owner.
    -- Returns: nothing. Raises AH016 if code of the application changed settings of this database session.
    -- Locks:   expects the sessions locked FOR NO KEY UPDATE.
    -- Access:  internal.
    if p_type = 'after_hours:session_expired' then
        update public.after_hours_sessions as s set expired_for = least(s.ended_at, s.expires_at) where s.id = any(p_ids);
    else
        update public.after_hours_sessions as s set warned_for = s.expires_at where s.id = any(p_ids);
    end if;
    -- deferred triggers fire here, as this role; at the COMMIT they would fire with the rights of the job's role
    set constraints all immediate;
    if pg_catalog.current_setting('search_path') operator(pg_catalog.<>) 'pg_catalog, pg_temp'
        or pg_catalog.current_setting('row_security') operator(pg_catalog.<>) 'off' then
        raise exception using
            errcode = 'AH016',
            message = 'a trigger of the application changed search_path or row_security of the announcer',
            hint = 'Check the triggers of the table: \d public.after_hours_sessions';
    end if;
end
$$;
comment on function after_hours.mark_sessions(text, uuid[]) is
'Marks sessions as announced for their present deadline, as after_hours_eraser. Internal, used by emit_events(). '
'Error AH016.';
grant create on schema after_hours to after_hours_eraser;
alter function after_hours.mark_sessions(text, uuid[]) owner to after_hours_eraser;
revoke create on schema after_hours from after_hours_eraser;
revoke all on function after_hours.mark_sessions(text, uuid[]) from public;
grant execute on function after_hours.mark_sessions(text, uuid[]) to after_hours_owner;
