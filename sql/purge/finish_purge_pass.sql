create or replace function after_hours.finish_purge_pass(p_run_id bigint, p_cutoff timestamptz, p_limit integer)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set enable_seqscan = off -- overdue matches are found by their index, as in purge_batch()
set jit = off
as $$
declare
    c_passes constant integer := 5;
    v_run after_hours.purge_runs;
    v_left bigint;
    v_status text;
begin
    -- Purpose: end a pass over everything overdue: start another pass over what was locked (at most 5 passes), or end the
    --          run: as succeeded only if nothing overdue is left except failed matches (see not_purged), and not if all
    --          failed. p_limit 0: the brake has stopped the run.
    -- Returns: again, succeeded, partial or braked.
    -- Locks:   the run's row.
    -- Access:  internal.
    select r.* into v_run from after_hours.purge_runs as r where r.id = p_run_id;
    v_left := (
        select count(*)
        from (
            select
            from after_hours.purgeable_matches as p
            where p.expires_at < p_cutoff and (v_run.match_id is null or p.id = v_run.match_id)
                and not exists (select from after_hours.purge_failures as f where f.match_id = p.id)
            limit 1000
        ) as l
    );
    if v_left > 0 and p_limit > 0 and v_run.passes < c_passes then
        update after_hours.purge_runs as r
        set passes = r.passes + 1,
            cursor_expires_at = null,
            cursor_match_id = null,
            tail_expires_at = null,
            tail_match_id = null,
            -- few are left, and at least one is locked: small batches isolate it
            batch_size = greatest(least(v_left::integer, r.batch_size) / 8, 1)
        where r.id = p_run_id;
        return 'again';
    end if;
    v_status := case
        -- everything was set aside, for the first time: no success; the catch-up tries again
        when v_left = 0 and v_run.matches = 0 and v_run.match_id is null and exists (
            select from after_hours.purge_failures as f where f.run_id = p_run_id and f.attempts = 1
        ) then 'partial'
        when v_left = 0 then 'succeeded'
        when p_limit = 0 then 'braked'
        else 'partial'
    end;
    perform after_hours.finish_purge_run(p_run_id, v_status, concat_ws(
        '; ',
        case
            when v_status = 'braked' then format(
                'brake: more became overdue during the run than it may delete (%s matches, %s messages)',
                v_run.match_limit, v_run.message_limit
            )
            when v_left > 0 then format(
                '%s overdue matches are locked by other transactions', case when v_left = 1000 then 'at least ' else '' end || v_left
            )
        end,
        case when v_run.failed > 0 then format('%s set aside, see after_hours.not_purged', v_run.failed) end
    ));
    return v_status;
end
$$;
comment on function after_hours.finish_purge_pass(bigint, timestamptz, integer) is
'Decides at the end of a pass whether the purge run makes another pass over locked matches or ends, and with which '
'status. Internal, used by purge_batch().';
alter function after_hours.finish_purge_pass(bigint, timestamptz, integer) owner to after_hours_owner;
revoke all on function after_hours.finish_purge_pass(bigint, timestamptz, integer) from public;
