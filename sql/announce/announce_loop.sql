create or replace procedure after_hours.announce_loop(p_phase interval)
language plpgsql
as $$
declare
    v_until timestamptz;
    v_mode text;
    v_wait interval := '0';
    v_progress after_hours.progress;
    v_pass record;
    v_sqlstate text;
    v_message text;
    v_failures integer := 0;
    v_retry interval;
    v_warned_at timestamptz;
begin
    -- Purpose: announce until the end of the run, one transaction per pass. Two loops alternate under one lock.
    --          A pass that fails for a reason that is no session's (a lock of others, a deadlock, a missing right) is without
    --          effect and repeated: after 20 ms, later 250 ms; after 5 s where only a change by hand helps. A cancel ends the run.
    --          A procedure that COMMITs can't have a SET clause: each transaction sets its search_path first.
    -- Locks:   after_hours.emitter, at most a second at a time; released by each commit, cancel or kill.
    -- Access:  after_hours_dba, after_hours_jobs.
    set local search_path = pg_catalog, pg_temp;
    -- A run ends at a fixed phase of the minute after the one in which it started: pg_cron then always has the next
    -- run queued, and the two loops (:00.25 and :30.25) never end together.
    v_until := date_trunc('minute', clock_timestamp()) + interval '1 minute' + p_phase;
    loop
        begin
            v_sqlstate := null;
            if v_mode is null then
                if after_hours.is_copy() then
                    return; -- row announcing of health says so
                end if;
                select m.mode into v_mode from after_hours.announce_mode() as m;
                if v_mode = 'tick' then
                    v_until := clock_timestamp() + interval '50 seconds'; -- then pg_cron's other jobs have their turn
                end if;
            end if;
            if v_mode = 'loop' then
                select p.*
                into v_pass
                from after_hours.announce_pass(v_until, v_wait, v_progress, v_failures, v_message) as p;
            else
                -- one of the two, page by page until nothing is left
                if p_phase >= interval '30 seconds' or after_hours.is_paused('announce') then
                    return;
                end if;
                select not d.has_more or clock_timestamp() >= v_until as is_over, d.expired + d.expiring as emitted, d.has_more,
                    0 as failures, v_progress as progress
                into v_pass
                from after_hours.announce_due() as d;
                perform after_hours.write_heartbeat(v_failures, v_message);
            end if;
        exception when others then -- not 57014: a cancel
            get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text;
        end;
        commit; -- outside of the block: a procedure can't commit in one with a handler
        set local search_path = pg_catalog, pg_temp;
        if v_sqlstate is not null then
            v_failures := v_failures + 1;
            v_message := format('%s (%s)', v_message, v_sqlstate);
            if v_warned_at is null or v_warned_at < clock_timestamp() - interval '1 minute' then
                v_warned_at := clock_timestamp();
                raise warning 'announcing had no effect: %; it is tried again', v_message;
            end if;
            v_retry := case
                when v_sqlstate !~ '^(40|53|55P03|AH042)' then interval '5 seconds'
                else least(greatest(v_retry * 2, interval '20 milliseconds'), interval '250 milliseconds')
            end;
            exit when clock_timestamp() + v_retry >= v_until;
            perform pg_sleep(extract(epoch from v_retry));
            continue;
        end if;
        exit when v_pass.is_over;
        v_retry := null;
        v_failures := v_pass.failures;
        v_progress := v_pass.progress;
        -- After events, wait 4 ms for more to become due: the fixed price of a pass and its commit exceeds that of its events
        -- (2, 4, 8 ms tried; docs/benchmarks.md). A large amount goes out in commits of announce_batch at once.
        v_wait := case when v_pass.emitted = 0 or v_pass.has_more then interval '0' else interval '4 milliseconds' end;
    end loop;
end
$$;
comment on procedure after_hours.announce_loop(interval) is
'Announces until p_phase (seconds into the minute) of the next minute, one transaction per pass. Run by pg_cron as '
'announce (0.25 s), announce_spare (30.25 s) and announce_boot.';
alter procedure after_hours.announce_loop(interval) owner to after_hours_owner;
revoke all on procedure after_hours.announce_loop(interval) from public;
grant execute on procedure after_hours.announce_loop(interval) to after_hours_jobs, after_hours_dba;
