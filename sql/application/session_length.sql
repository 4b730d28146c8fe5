create or replace function after_hours.session_length()
returns interval
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: the default length of a session.
    -- Returns: settings.session_length.
    -- Locks:   none.
    -- Access:  after_hours_app.
    select s.session_length from after_hours.settings as s;
$$;
comment on function after_hours.session_length() is 'The default length of a session: settings.session_length.';
alter function after_hours.session_length() owner to after_hours_owner;
revoke all on function after_hours.session_length() from public;
grant execute on function after_hours.session_length() to after_hours_app;
