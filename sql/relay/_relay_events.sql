create or replace function after_hours._relay_events(p_cursor text, p_limit integer default 1000)
returns table (
    kind text, incarnation text, start text, cursor text, more boolean,
    id bigint, uid uuid, user_id uuid, body text, due_at timestamptz, emitted_at timestamptz,
    issued_before timestamptz, blocked_ms integer, known_ahead boolean
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
#variable_conflict use_column
declare
    v_log record;
    v_from bigint;
    v_read bigint;
begin
    -- Purpose: the events of all users since a cursor; a relay follows the log with it.
    -- Returns: one row 'head' (start: fresh, replayed or reset; cursor: where this read ended; more: there are later
    --          events), then 'event' rows in id order, then 'block' rows: blocks changed in the last minute.
    -- Locks:   none: the caller has locked what is read.
    -- Access:  internal.
    select * into v_log from after_hours.log_position();
    v_from := after_hours.resolve_cursor(p_cursor, v_log.head, v_log.floor);
    start := case when p_cursor is null then 'fresh' when v_from is null then 'reset' else 'replayed' end;
    v_from := coalesce(v_from, v_log.head);
    select max(p.id) into v_read
    from (
        select e.id from after_hours.events as e where e.id > v_from order by e.id limit least(greatest(p_limit, 1), 10000)
    ) as p;
    v_read := coalesce(v_read, v_log.head);
    kind := 'head';
    incarnation := v_log.incarnation;
    cursor := v_log.epoch || '-' || v_read;
    more := v_read < v_log.head;
    return next;

    return query
    select 'event', null::text, null::text, e.epoch || '-' || e.id, null::boolean,
        e.id, e.uid, e.user_id, e.body, e.due_at, e.emitted_at, null::timestamptz, null::integer, e.known_ahead
    from after_hours.events as e
    where e.id > v_from and e.id <= v_read
        -- P4: no warning is read after its deadline has passed or moved (or its session was deleted).
        and (e.type <> 'after_hours:session_expiring' or e.deadline > clock_timestamp() and exists (
            select
            from public.after_hours_sessions as s
            where s.id = e.session_id and least(s.ended_at, s.expires_at) = e.deadline
        ))
    order by e.id;

    return query
    select 'block', null::text, null::text, null::text, null::boolean,
        null::bigint, null::uuid, b.user_id, null::text, null::timestamptz, null::timestamptz,
        b.tokens_not_before, after_hours.blocked_ms(b.until), null::boolean
    from after_hours.user_blocks as b
    where b.changed_at > clock_timestamp() - interval '1 minute'
        and (b.until > clock_timestamp() or b.tokens_not_before is not null);
end
$$;
comment on function after_hours._relay_events(text, integer) is
'The answer of relay_events() in one snapshot. Internal, called by it alone: it locks the tables first.';
alter function after_hours._relay_events(text, integer) owner to after_hours_owner;
revoke all on function after_hours._relay_events(text, integer) from public;
