create or replace procedure after_hours.announce_loop(p_phase interval)
language plpgsql
as $$
declare
    -- A run ends at a fixed phase of the minute after the one in which it started: pg_cron then always has the next
    -- run queued, and the two loops (:00.25 and :30.25) never end together.
    v_until timestamptz := date_trunc('minute', clock_timestamp()) + interval '1 minute' + p_phase;
    v_wait interval := '0';
    v_swept_at timestamptz;
    v_sweep_at timestamptz;
    v_pass record;
begin
    -- Purpose: announce until the end of the run, one transaction per pass. Two loops alternate under one lock.
    --          A procedure that COMMITs can't have a SET clause: each transaction sets its search_path first.
    -- Locks:   after_hours.emitter, at most a second at a time; released by each commit, cancel or kill.
    -- Access:  after_hours_dba, after_hours_jobs.
    set local search_path = pg_catalog, pg_temp;
    if after_hours.is_copy() then
        return; -- row announcing of health says so
    end if;
    if (select m.mode from after_hours.announce_mode() as m) = 'tick' then
        if p_phase < interval '30 seconds' and not after_hours.is_paused('announce') then
            perform after_hours.announce_due();
            perform after_hours.write_heartbeat();
        end if;
        return;
    end if;
    loop
        select p.* into v_pass from after_hours.announce_pass(v_until, v_wait, v_swept_at, v_sweep_at) as p;
        commit;
        set local search_path = pg_catalog, pg_temp;
        exit when v_pass.is_over;
        v_swept_at := v_pass.swept_at;
        v_sweep_at := v_pass.sweep_at;
        -- After events, wait 4 ms for more to become due: the fixed price of a pass and its commit exceeds that of its events
        -- (2, 4, 8 ms tried; docs/benchmarks.md). A large amount goes out in commits of announce_batch at once. If another
        -- transaction has locked a due session, retry after 20 ms, then less often: no busy loop.
        v_wait := case
            when v_pass.skipped = 0 and (v_pass.emitted = 0 or v_pass.has_more) then interval '0'
            when v_pass.skipped = 0 then interval '4 milliseconds'
            else least(greatest(v_wait * 2, interval '20 milliseconds'), interval '250 milliseconds')
        end;
    end loop;
end
$$;
comment on procedure after_hours.announce_loop(interval) is
'Announces until p_phase (seconds into the minute) of the next minute, one transaction per pass. Run by pg_cron as '
'announce (0.25 s), announce_spare (30.25 s) and announce_boot.';
alter procedure after_hours.announce_loop(interval) owner to after_hours_owner;
revoke all on procedure after_hours.announce_loop(interval) from public;
grant execute on procedure after_hours.announce_loop(interval) to after_hours_jobs, after_hours_dba;
