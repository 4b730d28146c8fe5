create or replace function after_hours.check_notify_queue()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_usage double precision := pg_notification_queue_usage();
begin
    -- Purpose: check the notification queue of the server.
    -- Returns: one row.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    check_name := 'notify_queue';
    ok := v_usage < 0.25;
    detail := format('%s %% of the notification queue is in use', round((v_usage * 100)::numeric, 1))
        || case when v_usage > 0.5 then '; events are written without NOTIFY, relays see them by polling' else '' end;
    next_command := case when not ok then
        'a listener has an open transaction; find it: select pid, usename, xact_start from pg_stat_activity where '
            'state like ''idle in transaction%'' order by xact_start;'
    end;
    return next;
end
$$;
comment on function after_hours.check_notify_queue() is
'Health check: how full the notification queue is. Read it as view after_hours.health.';
alter function after_hours.check_notify_queue() owner to after_hours_owner;
revoke all on function after_hours.check_notify_queue() from public;
grant execute on function after_hours.check_notify_queue() to after_hours_dba;
