create or replace function after_hours.end_session(p_session_id uuid, p_reason text default null)
returns public.after_hours_sessions
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_session public.after_hours_sessions;
begin
    -- Purpose: end a session now. Only the row is written: the announce loop finds it within a second and notifies the client.
    -- Returns: the row; a session that is over already is returned unchanged.
    -- Locks:   the session's row.
    -- Access:  after_hours_app.
    update public.after_hours_sessions as s
    set ended_at = clock_timestamp(), end_reason = p_reason
    where s.id = p_session_id and s.ended_at is null and s.expires_at > clock_timestamp()
    returning * into v_session;
    if not found then
        select s.* into v_session from public.after_hours_sessions as s where s.id = p_session_id;
        if not found then
            raise exception using
                errcode = 'AH001',
                message = format('there is no session %s', p_session_id),
                hint = 'List a user''s sessions: select * from public.after_hours_sessions where user_id = …;';
        end if;
    end if;
    return v_session;
end
$$;
comment on function after_hours.end_session(uuid, text) is
'Ends a session now; the client receives the reason ''moderation'' as such, any other as ''ended''. A second call '
'changes nothing. Error AH001.';
alter function after_hours.end_session(uuid, text) owner to after_hours_owner;
revoke all on function after_hours.end_session(uuid, text) from public;
grant execute on function after_hours.end_session(uuid, text) to after_hours_app;
