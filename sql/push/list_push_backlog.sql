create or replace function after_hours.list_push_backlog(p_now timestamptz default clock_timestamp())
returns table (
    target text, enabled boolean, waiting bigint, sending bigint, oldest_at timestamptz, next_at timestamptz,
    failing_since timestamptz, failures bigint, last_error text, sender_seen_at timestamptz
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: what is to be pushed, per target. Counts stop at 10,001.
    -- Returns: a row per target.
    -- Locks:   none; index scans.
    -- Access:  after_hours_dba.
    select
        t.name, t.enabled, p.waiting, p.sending, p.oldest_at, p.next_at, s.failing_since, coalesce(s.failures, 0), s.last_error,
        s.seen_at
    from after_hours.push_targets as t
    left join after_hours.push_state as s on s.target = t.name
    cross join lateral (
        select
            count(*) filter (where u.state = 'waiting' or u.next_at <= p_now) as waiting,
            count(*) filter (where u.state = 'sending' and u.next_at > p_now) as sending,
            min(u.created_at) as oldest_at, min(u.next_at) as next_at
        from (
            select p.state, p.created_at, p.next_at
            from after_hours.pushes as p
            where p.target = t.name and p.finished_at is null
            order by p.next_at
            limit 10001
        ) as u
    ) as p;
$$;
comment on function after_hours.list_push_backlog(timestamptz) is
'Per push target: pushes that wait or are being sent (counts stop at 10,001), failures in a row and the last error, when a sender '
'last asked. Read it as view push_backlog.';
alter function after_hours.list_push_backlog(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.list_push_backlog(timestamptz) from public;
grant execute on function after_hours.list_push_backlog(timestamptz) to after_hours_dba;
