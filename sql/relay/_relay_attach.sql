create or replace function after_hours._relay_attach(p_user_ids uuid[], p_cursors text[], p_issued_at timestamptz[])
returns table (
    ord integer, incarnation text, head bigint, start text, cursor text, state text, blocked_ms integer,
    ids bigint[], uids uuid[], cursors text[], bodies text[], due_ats timestamptz[], emitted_ats timestamptz[]
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
    v_now timestamptz := clock_timestamp();
    v_lead interval := (select t.warning_lead from after_hours.settings as t);
    v_max_replay constant integer := 500;
    v_stamp constant text := 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'; -- as iso_utc(), without the cost of a call
begin
    -- Purpose: attach users to the event log: one row per element, in order: where each starts and what it has missed.
    -- Returns: start (fresh, replayed, reset, blocked); cursor: the user's position; state: the JSON that hello, snapshot
    --          and reset share; the missed events as arrays; head: the last event id that the answer covers; blocked_ms
    --          (null: the token is outdated).
    -- Locks:   none: the caller has locked what is read.
    -- Access:  internal.
    if cardinality(p_user_ids) is distinct from cardinality(p_cursors)
        or cardinality(p_user_ids) is distinct from cardinality(p_issued_at) then
        raise exception using
            errcode = 'AH060',
            message = 'relay_attach: the three arrays differ in length',
            hint = 'Pass one cursor (or null) and one issued_at per user: relay_attach(array[user], array[null], array[now()]).';
    end if;
    select * into v_log from after_hours.log_position();
    return query
    -- Materialized: otherwise resolve_cursor() is evaluated at each use, four times the cost of everything else.
    with asked as materialized (
        select a.ord, a.user_id, a.cursor as presented, after_hours.resolve_cursor(a.cursor, v_log.head, v_log.floor) as from_id,
            b.until > v_now as is_blocked, b.until, a.issued_at < b.tokens_not_before as is_outdated
        from unnest(p_user_ids, p_cursors, p_issued_at) with ordinality as a (user_id, cursor, issued_at, ord)
        left join after_hours.user_blocks as b on b.user_id = a.user_id
    ),

    missed as materialized (
        select a.*, m.*, case
            when a.is_blocked or a.is_outdated then 'blocked'
            when a.presented is null then 'fresh'
            when a.from_id is null or m.found > v_max_replay then 'reset'
            else 'replayed'
        end as start
        from asked as a
        cross join lateral (
            select count(*) as found,
                array_agg(e.id order by e.id) filter (where e.is_current) as ids,
                array_agg(e.uid order by e.id) filter (where e.is_current) as uids,
                array_agg(e.epoch || '-' || e.id order by e.id) filter (where e.is_current) as cursors,
                array_agg(e.body order by e.id) filter (where e.is_current) as bodies,
                array_agg(e.due_at order by e.id) filter (where e.is_current) as due_ats,
                array_agg(e.emitted_at order by e.id) filter (where e.is_current) as emitted_ats
            from (
                -- P4: no warning is read after its deadline has passed or moved (or its session was deleted).
                select v.*, v.type <> 'after_hours:session_expiring' or v.deadline > v_now and exists (
                    select
                    from public.after_hours_sessions as s
                    where s.id = v.session_id and least(s.ended_at, s.expires_at) = v.deadline
                ) as is_current
                from after_hours.events as v
                where v.user_id = a.user_id and v.id > a.from_id and v.id <= v_log.head
                order by v.id
                limit v_max_replay + 1
            ) as e
        ) as m
    ),

    placed as materialized (
        select m.*, case when m.start = 'replayed' then m.presented else coalesce((
            select v.epoch || '-' || v.id
            from after_hours.events as v
            where v.user_id = m.user_id and v.id between v_log.floor and v_log.head
            order by v.id desc
            limit 1
        ), v_log.epoch || '-' || v_log.head) end as cursor
        from missed as m
    )

    select p.ord::integer, v_log.incarnation, v_log.head, p.start, p.cursor,
        case when p.start <> 'blocked' then
            '{"start":"' || p.start || '","cursor":"' || p.cursor
            || '","serverTime":"' || to_char(date_trunc('milliseconds', v_now at time zone 'UTC'), v_stamp)
            || '","sessions":[' || coalesce(sessions.json, '') || ']}'
        end,
        case when p.is_blocked then after_hours.blocked_ms(p.until) end,
        case when p.start = 'replayed' then p.ids end,
        case when p.start = 'replayed' then p.uids end,
        case when p.start = 'replayed' then p.cursors end,
        case when p.start = 'replayed' then p.bodies end,
        case when p.start = 'replayed' then p.due_ats end,
        case when p.start = 'replayed' then p.emitted_ats end
    from placed as p
    -- Sessions whose deadline is ahead or less than a day ago, at most 50. With warnsAt, the instant of the warning, a
    -- client can warn by itself if its network fails; a session ended early has none.
    cross join lateral (
        select string_agg(
            '{"sessionId":"' || r.id
            || '","expiresAt":"' || to_char(date_trunc('milliseconds', r.deadline at time zone 'UTC'), v_stamp)
            || coalesce('","warnsAt":"' || to_char(date_trunc('milliseconds', r.warns_at at time zone 'UTC'), v_stamp), '')
            || case
                when r.deadline <= v_now then '","state":"ended"}'
                when r.is_warned then '","state":"warned"}'
                else '","state":"active"}'
            end, ',' order by r.deadline, r.id
        ) as json
        from (
            select s.id, least(s.ended_at, s.expires_at) as deadline,
                exists (
                    select
                    from after_hours.events as v
                    where v.type = 'after_hours:session_expiring' and v.session_id = s.id
                        and v.deadline = least(s.ended_at, s.expires_at)
                ) as is_warned,
                case when s.ended_at is null then greatest(s.expires_at - v_lead, s.started_at) end as warns_at
            from public.after_hours_sessions as s
            where s.user_id = p.user_id and p.start <> 'blocked'
                and least(s.ended_at, s.expires_at) > v_now - interval '1 day'
            order by least(s.ended_at, s.expires_at) desc, s.id
            limit 50
        ) as r
    ) as sessions
    order by p.ord;
end
$$;
comment on function after_hours._relay_attach(uuid[], text[], timestamptz[]) is
'The answer of relay_attach() in one snapshot. Internal, called by it alone: it locks the tables first.';
alter function after_hours._relay_attach(uuid[], text[], timestamptz[]) owner to after_hours_owner;
revoke all on function after_hours._relay_attach(uuid[], text[], timestamptz[]) from public;
