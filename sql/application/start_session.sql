create or replace function after_hours.start_session(p_user_id uuid, p_length interval default null)
returns public.after_hours_sessions
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_length after_hours.span;
    v_now timestamptz := clock_timestamp();
    v_session public.after_hours_sessions;
begin
    -- Purpose: start a session of the given length (default: settings.session_length) for a user, now.
    -- Returns: the new row.
    -- Locks:   none beyond its own row.
    -- Access:  after_hours_app.
    begin
        v_length := coalesce(p_length, after_hours.session_length());
        if v_length = interval '0' or v_length > interval '1 day' then
            raise check_violation;
        end if;
    exception when check_violation then
        raise exception using
            errcode = 'AH008',
            message = format('a session can''t last %s', p_length),
            hint = 'Pass a length above zero and up to a day, e.g. after_hours.start_session(user_id, ''45 minutes'').';
    end;
    insert into public.after_hours_sessions (id, user_id, started_at, expires_at)
    values (gen_random_uuid(), p_user_id, v_now, v_now + v_length)
    returning * into v_session;
    return v_session;
end
$$;
comment on function after_hours.start_session(uuid, interval) is
'Starts a session for a user, now, of the given length (default settings.session_length, at most a day). Returns the '
'row. Error AH008.';
alter function after_hours.start_session(uuid, interval) owner to after_hours_owner;
revoke all on function after_hours.start_session(uuid, interval) from public;
grant execute on function after_hours.start_session(uuid, interval) to after_hours_app;
