create or replace function after_hours.set_locked_aside(
    p_type text, p_from timestamptz, p_to timestamptz, p_now timestamptz, p_lead interval
)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
    -- Purpose: note the due sessions of a range that a sweep found locked by other transactions: emit_set_aside() announces
    --          them when they are free, and the sweep need not stay for them.
    -- Returns: nothing.
    -- Locks:   none; the caller holds after_hours.emitter.
    -- Access:  internal.
    insert into after_hours.set_aside as a (session_id, type, deadline, sqlstate, message, retry_at)
    select d.session_id, p_type, d.deadline, '55P03', 'locked by another transaction', p_now
    from after_hours.list_due(
        p_type, p_from, '00000000-0000-0000-0000-000000000000', p_to, p_now, p_lead, 10000
    ) as d
    on conflict (session_id, type) do update
        set deadline = excluded.deadline, sqlstate = excluded.sqlstate, message = excluded.message, retry_at = excluded.retry_at;
$$;
comment on function after_hours.set_locked_aside(text, timestamptz, timestamptz, timestamptz, interval) is
'Sets due sessions of a range aside that are locked by other transactions, for emit_set_aside(). Internal, used by emit_due().';
alter function after_hours.set_locked_aside(text, timestamptz, timestamptz, timestamptz, interval) owner to after_hours_owner;
revoke all on function after_hours.set_locked_aside(text, timestamptz, timestamptz, timestamptz, interval) from public;
