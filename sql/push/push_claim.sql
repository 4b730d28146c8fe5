create or replace function after_hours.push_claim(p_node text, p_lease interval default '30 seconds')
returns table (
    push_id bigint, attempt integer, target text, url text, secret_name text, uid uuid, body text, seconds_left double precision
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    c_look constant integer := 500;
    v_now timestamptz;
    v_target after_hours.push_targets;
    v_state after_hours.push_state;
    v_push after_hours.pushes;
    v_verdict text;
    v_free double precision;
begin
    -- Purpose: take pushes for sending: read new events, end what may not be sent any more, lease the others.
    -- Returns: a row for each push to be sent now, within seconds_left and within the lease. body is the same for each attempt.
    --          Not more per target than its concurrency and rate allow, whatever the number of senders.
    -- Locks:   what it reads ACCESS SHARE; the row of push_state of each target, skipped where another sender has it; rows of pushes; until the commit.
    -- Access:  after_hours_push.
    -- locked first, so that the statements below see all rows, whoever rewrites a table: see relay_events()
    lock table only
        after_hours.settings, after_hours.events, after_hours.receipts, after_hours.user_blocks, public.after_hours_sessions
    in access share mode;
    perform after_hours._assert_tables();
    if p_lease not between interval '5 seconds' and interval '10 minutes' then
        raise exception using
            errcode = 'AH080',
            message = format('a lease of %s', p_lease),
            hint = 'Pass a lease between 5 seconds and 10 minutes.';
    end if;
    if not (select s.receipts from after_hours.settings as s) then
        raise exception using
            errcode = 'AH081',
            message = 'without receipts it is unknown who has acknowledged an event: nothing is pushed',
            hint = 'update after_hours.settings set receipts = true;';
    end if;
    if after_hours.is_copy() then
        raise exception using
            errcode = 'AH082',
            message = 'this is a copy of another database: nothing is pushed from it',
            hint = 'If it takes the original''s place: select after_hours.arm(''why'');';
    end if;
    for v_target in select t.* from after_hours.push_targets as t where t.enabled order by t.name loop
        if not exists (select from after_hours.push_state as s where s.target = v_target.name) then
            insert into after_hours.push_state (target, read_to, tokens)
            values (
                v_target.name,
                coalesce(after_hours.first_event_since(v_target.added_at) - 1, (select max(e.id) from after_hours.events as e), 0),
                v_target.per_second
            )
            on conflict on constraint push_state_pkey do nothing;
        end if;
        select s.* into v_state from after_hours.push_state as s where s.target = v_target.name for update skip locked;
        continue when not found;
        v_now := clock_timestamp();
        for v_page in 1..5 loop
            exit when after_hours.push_read(v_target, v_now) < 1000;
        end loop;

        v_state.tokens := least(
            v_target.per_second, v_state.tokens + v_target.per_second * greatest(extract(epoch from v_now - v_state.refilled_at), 0)
        );
        select least(floor(v_state.tokens), v_target.concurrency - count(*))
        into v_free
        from after_hours.pushes as p
        where p.target = v_target.name and p.finished_at is null and p.state = 'sending' and p.next_at > v_now;
        -- while all answers are failures, one attempt at a time is enough to see the end of it
        if v_state.failures >= 10 then
            v_free := least(v_free, v_free - v_target.concurrency + 1);
        end if;
        for v_push in
            select p.*
            from after_hours.pushes as p
            where p.target = v_target.name and p.finished_at is null and p.next_at <= v_now
            order by p.next_at, p.id
            limit c_look
            for update skip locked
        loop
            v_verdict := after_hours.push_verdict(v_push, v_now);
            if v_verdict is not null then
                update after_hours.pushes as p
                set state = case when v_verdict like 'expired: %' then 'expired' else 'cancelled' end, finished_at = v_now,
                    detail = v_verdict
                where p.id = v_push.id;
            elsif v_free >= 1 then
                v_free := v_free - 1;
                v_state.tokens := v_state.tokens - 1;
                -- next_at is the end of the lease: a push of a killed sender is due again by itself
                update after_hours.pushes as p
                set state = 'sending', attempts = p.attempts + 1, next_at = v_now + p_lease
                where p.id = v_push.id
                returning p.id, p.attempts, p.uid, extract(epoch from least(p.not_after, p.next_at) - v_now)
                into push_id, attempt, uid, seconds_left;
                insert into after_hours.push_attempts (push_id, attempt, node, started_at)
                values (push_claim.push_id, push_claim.attempt, left(p_node, 200), v_now);
                select
                    '{"type":"' || e.type || '","timestamp":"' || after_hours.iso_utc(e.emitted_at) || '","data":'
                    || left(e.body, -1) || ',"userId":"' || e.user_id || '"}}'
                into body
                from after_hours.events as e
                where e.id = v_push.event_id;
                target := v_target.name;
                url := v_target.url;
                secret_name := v_target.secret_name;
                return next;
            end if;
        end loop;
        update after_hours.push_state as s
        set tokens = v_state.tokens, refilled_at = v_now, seen_at = v_now
        where s.target = v_target.name;
    end loop;
end
$$;
comment on function after_hours.push_claim(text, interval) is
'Leases pushes to a sender: those that no client has acknowledged within the target''s wait, before their deadline. A lease that '
'ends without push_result() is given to the next caller. Errors AH080 (lease), AH081 (receipts are off), AH082 (a copy).';
alter function after_hours.push_claim(text, interval) owner to after_hours_owner;
revoke all on function after_hours.push_claim(text, interval) from public;
grant execute on function after_hours.push_claim(text, interval) to after_hours_push;
