create or replace function after_hours.push_read(p_target after_hours.push_targets, p_now timestamptz)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    c_page constant integer := 1000;
    v_from bigint;
    v_to bigint;
    v_read integer;
begin
    -- Purpose: decide on the next page of events whose wait is over: those that no client has acknowledged become pushes.
    --          Ids follow the order of commits: what lies at or below read_to is decided, once and for all.
    -- Returns: the number of events read; less than 1,000 when there are no more.
    -- Locks:   none of its own: the caller holds the target's row of push_state.
    -- Access:  internal.
    select s.read_to into v_from from after_hours.push_state as s where s.target = p_target.name;
    -- the page ends before the first event that is still waiting; one from the future (a clock set back) delays nothing
    select max(e.id), count(*)
    into v_to, v_read
    from (
        select e.id, bool_or(e.emitted_at > p_now - p_target.wait and e.emitted_at <= p_now) over (order by e.id) as is_waiting
        from (select * from after_hours.events as e where e.id > v_from order by e.id limit c_page) as e
    ) as e
    where not e.is_waiting;
    if v_read = 0 then
        return 0;
    end if;
    insert into after_hours.pushes (target, uid, event_id, type, session_id, user_id, deadline, not_after, next_at)
    select p_target.name, e.uid, e.id, e.type, e.session_id, e.user_id, e.deadline, e.not_after, p_now
    from (
        select
            e.*,
            case e.type
                when 'after_hours:session_expired' then e.emitted_at + p_target.retry_ends_for
                else e.deadline
            end as not_after
        from after_hours.events as e
        where e.id > v_from and e.id <= v_to and e.type = any(p_target.types)
    ) as e
    where e.not_after > p_now
        and not exists (select from after_hours.receipts as r where r.uid = e.uid and r.first_ack is not null)
    order by e.id
    on conflict (target, uid) do nothing; -- announced again with the same uid after a failover
    update after_hours.push_state as s set read_to = v_to where s.target = p_target.name;
    return v_read;
end
$$;
comment on function after_hours.push_read(after_hours.push_targets, timestamptz) is
'Makes pushes of up to 1,000 events whose wait is over and that no client has acknowledged; returns how many it read. Internal, '
'used by push_claim().';
alter function after_hours.push_read(after_hours.push_targets, timestamptz) owner to after_hours_owner;
revoke all on function after_hours.push_read(after_hours.push_targets, timestamptz) from public;
