create or replace function after_hours.list_unreached_warnings()
returns table (
    id uuid, user_id uuid, session_id uuid, expires_at timestamptz, emitted_at timestamptz, was_written boolean
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
begin
    -- Purpose: warnings that no client has acknowledged in time: the application sends a push message instead.
    -- Returns: warnings emitted at least 5 s ago whose deadline is ahead and unchanged; was_written: a relay has sent it,
    --          but no client has acknowledged it. With settings.receipts off every warning is listed.
    -- Locks:   none.
    -- Access:  after_hours_app, after_hours_dba.
    perform after_hours._assert_tables();
    return query
    select e.uid, e.user_id, e.session_id, e.deadline, e.emitted_at,
        exists (select from after_hours.receipts as r where r.uid = e.uid)
    from after_hours.events as e
    join public.after_hours_sessions as s on s.id = e.session_id
    where e.type = 'after_hours:session_expiring'
        and e.id >= after_hours.first_event_since(statement_timestamp() - (select t.warning_lead from after_hours.settings as t))
        and e.emitted_at <= statement_timestamp() - interval '5 seconds'
        and e.deadline > statement_timestamp()
        and least(s.ended_at, s.expires_at) = e.deadline
        and not exists (select from after_hours.receipts as r where r.uid = e.uid and r.first_ack is not null);
exception
    when insufficient_privilege or undefined_table or undefined_column then
        perform after_hours.assert_access('public.after_hours_sessions'); -- says it in words
        raise;
end
$$;
comment on function after_hours.list_unreached_warnings() is
'Warnings still valid, emitted at least 5 s ago, that no client has acknowledged. Read it as view unreached_warnings. '
'Errors AH015, AH019.';
alter function after_hours.list_unreached_warnings() owner to after_hours_owner;
revoke all on function after_hours.list_unreached_warnings() from public;
grant execute on function after_hours.list_unreached_warnings() to after_hours_app, after_hours_dba;
