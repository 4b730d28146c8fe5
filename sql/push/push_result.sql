create or replace function after_hours.push_result(
    p_push_id bigint, p_attempt integer, p_status integer, p_error text, p_retry_after interval default null
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_is_good boolean := coalesce(p_status between 200 and 299, false);
    v_push after_hours.pushes;
    v_state text;
begin
    -- Purpose: record what came of an attempt. 2xx: delivered. Everything else is tried again, later each time (1 s to 60 s,
    --          with jitter, not before p_retry_after), until its time is over. 410: the target is disabled.
    -- Returns: the state of the push; null if there is no such attempt, or it has been recorded.
    -- Locks:   its rows of pushes, push_attempts and push_state.
    -- Access:  after_hours_push.
    update after_hours.push_attempts as a
    set finished_at = v_now, status = p_status, error = left(p_error, 500)
    where a.push_id = p_push_id and a.attempt = p_attempt and a.finished_at is null;
    if not found then
        return null;
    end if;
    select p.* into v_push from after_hours.pushes as p where p.id = p_push_id for update;
    -- A failure of an attempt whose lease is another's by now changes nothing; a success is one, however late.
    if v_push.finished_at is null and (v_is_good or v_push.attempts = p_attempt) then
        v_push.next_at := greatest(
            v_now + least(interval '1 second' * 2 ^ least(p_attempt - 1, 6), interval '60 seconds') * (0.5 + random() / 2),
            v_now + p_retry_after
        );
        v_state := case when v_is_good then 'delivered' when v_push.next_at >= v_push.not_after then 'expired' else 'waiting' end;
        update after_hours.pushes as p
        set state = v_state, next_at = v_push.next_at, finished_at = case when v_state <> 'waiting' then v_now end,
            detail = case when not v_is_good then coalesce('status ' || p_status, left(p_error, 500)) end
        where p.id = p_push_id;
    end if;
    update after_hours.push_state as s
    set failures = case when v_is_good then 0 else s.failures + 1 end,
        failing_since = case when not v_is_good then coalesce(s.failing_since, v_now) end,
        last_error = case when v_is_good then s.last_error else coalesce('status ' || p_status, left(p_error, 500)) end
    where s.target = v_push.target;
    if p_status = 410 then
        update after_hours.push_targets as t set enabled = false where t.name = v_push.target;
    end if;
    return coalesce(v_state, v_push.state);
end
$$;
comment on function after_hours.push_result(bigint, integer, integer, text, interval) is
'Records the answer to an attempt: HTTP status, or an error when there was none. Returns the state: delivered, waiting (tried '
'again) or expired; null for an unknown attempt.';
alter function after_hours.push_result(bigint, integer, integer, text, interval) owner to after_hours_owner;
revoke all on function after_hours.push_result(bigint, integer, integer, text, interval) from public;
grant execute on function after_hours.push_result(bigint, integer, integer, text, interval) to after_hours_push;
