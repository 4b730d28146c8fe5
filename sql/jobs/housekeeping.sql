create or replace procedure after_hours.housekeeping()
language plpgsql
as $$
declare
    v_errors text[] := '{}';
    v_step text;
    v_count integer;
begin
    -- Purpose: delete what is past its own retention: events, receipts, logs, evidence, pg_cron's history; expire holds.
    --          Small commits; a failed step is reported at the end, after the others have run.
    -- Locks:   the rows of one batch at a time.
    -- Access:  after_hours_dba, after_hours_jobs.
    set local search_path = pg_catalog, pg_temp;
    foreach v_step in array array['expire_holds', 'trim_events', 'trim_logs', 'trim_job_runs', 'trim_evidence'] loop
        loop
            exit when after_hours.is_paused('housekeeping');
            begin
                execute format('select after_hours.%I()', v_step) into v_count;
            exception when others then
                v_errors := v_errors || format('%s: %s (%s)', v_step, sqlerrm, sqlstate);
                v_count := 0;
            end;
            commit;
            set local search_path = pg_catalog, pg_temp;
            exit when v_count = 0;
        end loop;
    end loop;
    -- once a day the head of the evidence chain goes to the server log: whoever changes the chain must change the log too
    if extract(hour from clock_timestamp() at time zone 'UTC') = 3 then
        raise log 'after_hours evidence chain: %', (
            select format('batch %s hash %s', c.head_seq, encode(c.head_hash, 'hex')) from after_hours.evidence_chain as c
        );
    end if;
    if cardinality(v_errors) > 0 then
        raise exception using
            errcode = 'AH043',
            message = 'some steps of housekeeping failed: ' || array_to_string(v_errors, '; '),
            hint = 'Fix the cause named above, then run: CALL after_hours.housekeeping();';
    end if;
end
$$;
comment on procedure after_hours.housekeeping() is
'Trims events, receipts, logs, evidence and pg_cron''s history to their retentions, and expires holds whose keep_until '
'has passed. Hourly by pg_cron; safe at any time. Error AH043.';
alter procedure after_hours.housekeeping() owner to after_hours_owner;
revoke all on procedure after_hours.housekeeping() from public;
grant execute on procedure after_hours.housekeeping() to after_hours_jobs, after_hours_dba;
