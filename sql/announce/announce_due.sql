create or replace function after_hours.announce_due(
    p_limit integer default null,
    out expired integer, out expiring integer, out skipped integer, out has_more boolean, out next_due timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    v_now timestamptz;
    v_limit integer := coalesce(p_limit, (select s.announce_batch from after_hours.settings as s));
begin
    -- Purpose: announce what is due now: ends first, then warnings, up to p_limit of each. Looks for what was written late as
    --          well, up to an hour back; what lies further back is found in parts, within an hour of calls each minute.
    -- Returns: the number of events written of each type, the number of due sessions skipped because another transaction
    --          holds their row lock, whether more sessions are due, and the next due instant.
    -- Locks:   after_hours.emitter EXCLUSIVE and the sessions ACCESS SHARE until the caller commits; the due ones FOR SHARE. A
    --          caller that is idle in its transaction for 5 s is disconnected: nothing else is announced meanwhile.
    -- Access:  after_hours_dba, after_hours_jobs.
    begin
        lock table after_hours.emitter in exclusive mode;
    exception when lock_not_available then
        raise exception using
            errcode = 'AH042',
            message = 'another session has been announcing for longer than 5 seconds',
            hint = 'Find the cause: select * from after_hours.health where not ok; then repeat.';
    end;
    -- Until the commit nothing else is announced: a caller that stays idle in its transaction is ended.
    perform set_config('idle_in_transaction_session_timeout', '5s', true);
    lock table only public.after_hours_sessions in access share mode; -- before the snapshot: see announce_pass()
    perform after_hours._assert_tables();
    v_now := clock_timestamp();
    select d.expired, d.expiring, d.skipped, d.has_more
    into expired, expiring, skipped, has_more
    from after_hours.emitter as e
    cross join lateral after_hours.emit_due(v_now, v_limit, null, e.swept_at, (e.swept_at, v_now, null, null, null, null, null)) as d;
    next_due := after_hours.next_due(v_now);
end
$$;
comment on function after_hours.announce_due(integer) is
'Announces what is due now: writes events and NOTIFYs them, ends first. Returns counts, rows skipped because locked, '
'whether more is due, and the next due instant. Commit at once: nothing else is announced meanwhile, and a session that is '
'idle in its transaction for 5 s is ended. Waits up to 5 s for a running pass (AH042). Error AH044 in a copy.';
alter function after_hours.announce_due(integer) owner to after_hours_owner;
revoke all on function after_hours.announce_due(integer) from public;
grant execute on function after_hours.announce_due(integer) to after_hours_jobs, after_hours_dba;
