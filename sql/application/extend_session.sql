create or replace function after_hours.extend_session(p_session_id uuid, p_by interval)
returns public.after_hours_sessions
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_by after_hours.span;
    v_session public.after_hours_sessions;
begin
    -- Purpose: extend a running session. Its warning and end become due again by themselves: due-ness is computed from the row.
    -- Returns: the changed row.
    -- Locks:   the session's row.
    -- Access:  after_hours_app.
    begin
        v_by := p_by;
        if v_by is null or v_by = interval '0' then
            raise check_violation;
        end if;
    exception when check_violation then
        raise exception using
            errcode = 'AH008',
            message = format('a session can''t be extended by %s', coalesce(p_by::text, 'null')),
            hint = 'Pass days and time above zero, 36500 days at most; to end a session early: select after_hours.end_session(session_id, reason);';
    end;
    update public.after_hours_sessions as s
    set expires_at = s.expires_at + v_by
    where s.id = p_session_id and s.ended_at is null and s.expires_at > clock_timestamp()
    returning * into v_session;
    if not found then
        perform from public.after_hours_sessions as s where s.id = p_session_id;
        if not found then
            raise exception using
                errcode = 'AH001',
                message = format('there is no session %s', p_session_id),
                hint = 'List a user''s sessions: select * from public.after_hours_sessions where user_id = …;';
        end if;
        raise exception using
            errcode = 'AH002',
            message = format('session %s is over', p_session_id),
            hint = 'Start a new one: select after_hours.start_session(user_id);';
    end if;
    return v_session;
end
$$;
comment on function after_hours.extend_session(uuid, interval) is
'Extends a running session; its warning and end are announced again for the new deadline. Returns the row. Errors AH001 '
'(unknown), AH002 (over), AH008 (length).';
alter function after_hours.extend_session(uuid, interval) owner to after_hours_owner;
revoke all on function after_hours.extend_session(uuid, interval) from public;
grant execute on function after_hours.extend_session(uuid, interval) to after_hours_app;
