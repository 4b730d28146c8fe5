create or replace function after_hours.trim_events(p_limit integer default 5000)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_before timestamptz;
    v_ids bigint[];
    v_told timestamptz;
begin
    -- Purpose: delete the oldest events past settings.event_retention, and raise the floors in the same transaction:
    --          a client with a cursor below the floor gets a reset, never a gap, and no end up to the latest one trimmed is
    --          announced again. Warnings need no floor: trimmed ones are of deadlines that have passed.
    -- Returns: the number deleted; call again until it is below p_limit. The caller commits in between.
    -- Locks:   the row of after_hours.event_floor, the deleted events.
    -- Access:  after_hours_dba, after_hours_jobs.
    select clock_timestamp() - s.event_retention into v_before from after_hours.settings as s;
    perform from after_hours.event_floor as f for update;
    select coalesce(array_agg(e.id), '{}')
    into v_ids
    from (select id, emitted_at from after_hours.events order by id limit p_limit) as e
    where e.emitted_at < v_before;
    with trimmed as (
        delete from after_hours.events as e where e.id = any(v_ids) returning e.type, e.deadline
    )

    select max(t.deadline) into v_told from trimmed as t where t.type = 'after_hours:session_expired';
    update after_hours.event_floor as f
    set id = (select max(i) from unnest(v_ids) as i), expired_to = greatest(f.expired_to, least(v_told, clock_timestamp()))
    where cardinality(v_ids) > 0;
    return cardinality(v_ids);
end
$$;
comment on function after_hours.trim_events(integer) is
'Deletes up to p_limit of the oldest events past settings.event_retention and raises the floor of valid cursors. '
'Returns their number.';
alter function after_hours.trim_events(integer) owner to after_hours_owner;
revoke all on function after_hours.trim_events(integer) from public;
grant execute on function after_hours.trim_events(integer) to after_hours_jobs, after_hours_dba;
