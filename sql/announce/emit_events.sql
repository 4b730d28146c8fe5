create or replace function after_hours.emit_events(
    p_type text, p_ids uuid[], p_now timestamptz, p_epoch text, p_is_quiet boolean
)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_settings after_hours.settings;
    v_stamp constant text := 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"';
    v_emitted text := after_hours.iso_utc(p_now);
    v_half integer := cardinality(p_ids) / 2;
    v_emitted_count integer;
    v_sqlstate text;
    v_message text;
begin
    -- Purpose: turn locked due sessions into events, mark them, NOTIFY once per event. If a session raises an error, the
    --          batch is halved until that session is alone: it is set aside, and the others are announced.
    -- Returns: the number of events written; a session whose event exists already is only marked.
    -- Locks:   none of its own: the caller holds emitter and the sessions.
    -- Access:  internal.
    if cardinality(p_ids) = 0 then
        return 0;
    end if;
    select s.* into v_settings from after_hours.settings as s;

    with due as (
        select
            s.id, s.user_id, least(s.ended_at, s.expires_at) as deadline,
            case p_type
                when 'after_hours:session_expired' then least(s.ended_at, s.expires_at)
                else greatest(s.expires_at - v_settings.warning_lead, s.started_at)
            end as due_at,
            case
                when s.ended_at is null or s.ended_at >= s.expires_at then 'timeout'
                when s.end_reason = 'moderation' then 'moderation'
                else 'ended'
            end as reason
        from public.after_hours_sessions as s
        where s.id = any(p_ids)
    ),

    numbered as (
        select
            d.*,
            nextval('after_hours.events_id_seq') as event_id,
            md5(p_type || '|' || d.id || '|' || (extract(epoch from d.deadline) * 1000000)::bigint)::uuid as uid
        from (select * from due order by due.due_at, due.id) as d
    ),

    written as (
        insert into after_hours.events (id, uid, epoch, type, session_id, user_id, deadline, due_at, emitted_at, body)
        overriding system value
        select
            n.event_id, n.uid, p_epoch, p_type, n.id, n.user_id, n.deadline, n.due_at, p_now,
            -- every value is a uuid, a number, an instant or a constant of this schema: none needs JSON escapes
            '{"type":"' || p_type || '","id":"' || n.uid || '","cursor":"' || p_epoch || '-' || n.event_id
            || '","sessionId":"' || n.id
            || '","expiresAt":"' || to_char(date_trunc('milliseconds', n.deadline at time zone 'UTC'), v_stamp)
            || case p_type
                when 'after_hours:session_expired' then '","reason":"' || n.reason || '"'
                else '","minutesRemaining":' || ceil(extract(epoch from n.deadline - p_now) / 60)::integer
            end
            || ',"emittedAt":"' || v_emitted || '"}'
        from numbered as n
        on conflict (type, session_id, deadline) do nothing
        returning id, user_id, body
    ),

    told as (
        select
            case when not p_is_quiet then pg_notify(
                'after_hours_events',
                case v_settings.notify_payload
                    when 'wake' then '{"cursor":"' || p_epoch || '-' || w.id || '"}'
                    else left(w.body, -1) || ',"userId":"' || w.user_id || '"}'
                end
            ) end
        from (select * from written order by written.id) as w
    )

    select count(*) into v_emitted_count from told;

    perform after_hours.mark_sessions(p_type, p_ids);
    if exists (select from after_hours.set_aside) then
        delete from after_hours.set_aside as a where a.type = p_type and a.session_id = any(p_ids);
    end if;
    return v_emitted_count;
exception
    when others then
        get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text;
        -- Errors of class 42 (missing privilege or column) are set aside as well: health reports them, and the session
        -- is retried automatically.
        if v_sqlstate not like '42%' and not after_hours.is_row_error(v_sqlstate) then
            raise;
        end if;
        if cardinality(p_ids) > 1 then
            return after_hours.emit_events(p_type, p_ids[:v_half], p_now, p_epoch, p_is_quiet)
                + after_hours.emit_events(p_type, p_ids[v_half + 1:], p_now, p_epoch, p_is_quiet);
        end if;
        -- retried automatically: after 5 s, then 10 s, 20 s … at most 10 minutes apart
        insert into after_hours.set_aside as a (session_id, type, deadline, sqlstate, message, retry_at)
        select s.id, p_type, least(s.ended_at, s.expires_at), v_sqlstate, v_message, p_now + interval '5 seconds'
        from public.after_hours_sessions as s
        where s.id = p_ids[1]
        on conflict (session_id, type) do update
            set deadline = excluded.deadline, sqlstate = excluded.sqlstate, message = excluded.message,
                attempts = a.attempts + 1,
                retry_at = p_now + least(interval '5 seconds' * 2 ^ least(a.attempts, 10), interval '10 minutes');
        return 0;
end
$$;
comment on function after_hours.emit_events(text, uuid[], timestamptz, text, boolean) is
'Writes the events of locked due sessions, marks the sessions and sends NOTIFY; a session that raises an error goes to '
'after_hours.set_aside. Internal, used by announce_due().';
alter function after_hours.emit_events(text, uuid[], timestamptz, text, boolean) owner to after_hours_owner;
revoke all on function after_hours.emit_events(text, uuid[], timestamptz, text, boolean) from public;
