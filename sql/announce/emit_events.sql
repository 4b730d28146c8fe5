create or replace function after_hours.emit_events(
    p_type text, p_places tid[], p_deadlines timestamptz[], p_now timestamptz, p_lead interval, p_known_from timestamptz
)
returns uuid[]
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
-- By ctid, whatever the statistics say: a hash join would read all sessions.
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_payload text := (select s.notify_payload from after_hours.settings as s);
    v_stamp constant text := 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"';
    v_emitted text := after_hours.iso_utc(p_now);
    v_epoch text := after_hours.open_epoch();
    -- Relays find events in the table without a NOTIFY too; with a full notification queue the COMMIT would fail.
    v_is_quiet boolean := pg_notification_queue_usage() > 0.5;
    v_half integer := cardinality(p_places) / 2;
    v_told uuid[];
    v_sqlstate text;
    v_message text;
begin
    -- Purpose: turn due sessions into events and NOTIFY once per event; those due at p_known_from or later (null: none) were
    --          known ahead. If a session raises an error, the batch is halved until
    --          that session is alone: it is set aside, and the others are announced.
    -- Returns: the ids of the sessions told. Not told: sessions that another transaction has locked or changed meanwhile.
    -- Locks:   the sessions FOR SHARE, skipping locked ones: an extension in flight must not be told as an end. The caller
    --          holds emitter, so that nothing else inserts the same event: no ON CONFLICT.
    -- Access:  internal.
    -- A SET clause of this function would end before the caller's COMMIT; set_config() lasts until the COMMIT.
    -- An event that a client has seen must survive a crash.
    if current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    with locked as (
        select
            s.id, s.user_id, d.deadline,
            case p_type
                when 'after_hours:session_expired' then d.deadline
                else greatest(d.deadline - p_lead, s.started_at)
            end as due_at,
            case
                when s.ended_at is null or s.ended_at >= s.expires_at then 'timeout'
                when s.end_reason = 'moderation' then 'moderation'
                else 'ended'
            end as reason
        from unnest(p_places, p_deadlines) as d (place, deadline)
        join public.after_hours_sessions as s on s.ctid = d.place
        where least(s.ended_at, s.expires_at) = d.deadline
            and (p_type = 'after_hours:session_expired' or s.ended_at is null and s.started_at <= p_now)
        for share of s skip locked
    ),

    numbered as (
        select
            d.*,
            nextval('after_hours.events_id_seq') as event_id,
            -- the same value as with extract(): microseconds fit into a double until the year 2242
            md5(p_type || '|' || d.id || '|' || (date_part('epoch', d.deadline) * 1000000)::bigint)::uuid as uid
        from (select * from locked order by locked.due_at, locked.id) as d
    ),

    written as (
        insert into after_hours.events (id, uid, epoch, type, session_id, user_id, deadline, due_at, emitted_at, known_ahead, body)
        overriding system value
        select
            n.event_id, n.uid, v_epoch, p_type, n.id, n.user_id, n.deadline, n.due_at, p_now,
            coalesce(n.due_at >= p_known_from, false),
            -- every value is a uuid, a number, an instant or a constant of this schema: none needs JSON escapes
            '{"type":"' || p_type || '","id":"' || n.uid || '","cursor":"' || v_epoch || '-' || n.event_id
            || '","sessionId":"' || n.id
            || '","expiresAt":"' || to_char(date_trunc('milliseconds', n.deadline at time zone 'UTC'), v_stamp)
            || case p_type
                when 'after_hours:session_expired' then '","reason":"' || n.reason || '"'
                else '","minutesRemaining":' || ceil(extract(epoch from n.deadline - p_now) / 60)::integer
            end
            || ',"emittedAt":"' || v_emitted || '"}'
        from numbered as n
        returning id, session_id, user_id, body
    ),

    told as (
        select
            w.session_id,
            case when not v_is_quiet then pg_notify(
                'after_hours_events',
                case v_payload
                    when 'wake' then '{"cursor":"' || v_epoch || '-' || w.id || '"}'
                    else left(w.body, -1) || ',"userId":"' || w.user_id || '"}'
                end
            ) end
        from (select * from written order by written.id) as w
    )

    select coalesce(array_agg(t.session_id), '{}') into v_told from told as t;
    return v_told;
exception
    when others then
        get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text;
        -- The installation's or the server's fault, not this row's: the run ends with the error, and health reports it.
        if not after_hours.is_row_error(v_sqlstate) then
            raise;
        end if;
        if cardinality(p_places) > 1 then
            return after_hours.emit_events(p_type, p_places[:v_half], p_deadlines[:v_half], p_now, p_lead, p_known_from)
                || after_hours.emit_events(p_type, p_places[v_half + 1:], p_deadlines[v_half + 1:], p_now, p_lead, p_known_from);
        end if;
        -- retried automatically: after 5 s, then 10 s, 20 s … at most 10 minutes apart
        insert into after_hours.set_aside as a (session_id, type, deadline, sqlstate, message, retry_at)
        select s.id, p_type, p_deadlines[1], v_sqlstate, v_message, p_now + interval '5 seconds'
        from public.after_hours_sessions as s
        where s.ctid = p_places[1]
        on conflict (type, deadline, session_id) do update
            set sqlstate = excluded.sqlstate, message = excluded.message,
                attempts = a.attempts + 1,
                retry_at = p_now + least(interval '5 seconds' * 2 ^ least(a.attempts, 10), interval '10 minutes');
        return '{}';
end
$$;
comment on function after_hours.emit_events(text, tid[], timestamptz[], timestamptz, interval, timestamptz) is
'Locks due sessions, writes their events and sends NOTIFY; a session that raises an error goes to after_hours.set_aside. '
'Internal, used by emit_due().';
alter function after_hours.emit_events(text, tid[], timestamptz[], timestamptz, interval, timestamptz) owner to after_hours_owner;
revoke all on function after_hours.emit_events(text, tid[], timestamptz[], timestamptz, interval, timestamptz) from public;
