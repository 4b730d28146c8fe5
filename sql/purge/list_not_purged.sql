create or replace function after_hours.list_not_purged()
returns table (
    match_id uuid, expired_at timestamptz, overdue_since timestamptz, reason text, since timestamptz, by_whom text, detail text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set jit = off
as $$
declare
    v_cutoff timestamptz := after_hours.purge_cutoff();
    v_run after_hours.purge_runs;
begin
    -- Purpose: list every match past its retention that a run has not deleted or will not delete, and why.
    -- Returns: reason held | referenced | set aside | braked | paused | left (by the last run); without matches that only
    --          became due since the last run: see after_hours.backlog.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    perform after_hours.assert_access('public.after_hours_matches', 'public.after_hours_messages');
    select r.* into v_run from after_hours.purge_runs as r where r.match_id is null and r.status <> 'running' order by r.id desc limit 1;
    return query
    select
        m.id, m.expires_at, after_hours.purge_due_at(m.expires_at, m.created_at, s.retention),
        case
            when h.first_id is not null then 'held'
            when f.sqlstate in ('23503', '23001') then 'referenced' -- 23001: a RESTRICT key, from PostgreSQL 18 on
            when f.match_id is not null then 'set aside'
            when v_run.status in ('braked', 'paused') then v_run.status
            else 'left'
        end,
        coalesce(h.placed_at, f.first_at, v_run.finished_at),
        coalesce(h.placed_by, case when f.match_id is null then v_run.run_by end),
        case
            when h.first_id is not null then h.detail
            when f.match_id is not null then format('%s (%s), %s attempts', f.message, f.sqlstate, f.attempts)
            when v_run.status = 'succeeded'
                then format('became overdue after run %s had passed: un-saved, released or moved back. The next run deletes it.', v_run.id)
            else format('run %s: %s', v_run.id, concat_ws(', ', v_run.status, v_run.detail))
        end
    from public.after_hours_matches as m
    cross join after_hours.settings as s
    left join lateral (
        select
            min(h.id) as first_id, min(h.placed_at) as placed_at, string_agg(distinct h.placed_by, ', ') as placed_by,
            string_agg(format('hold %s%s, %s: %s', h.id, case when h.match_id is null then ' on a user' else '' end, h.kind,
                h.reason), '; ' order by h.id) as detail
        from after_hours.holds as h
        where h.match_id = m.id or h.user_id = m.user_a or h.user_id = m.user_b
    ) as h on true
    left join after_hours.purge_failures as f on f.match_id = m.id
    where m.converted_to_match_id is null and m.expires_at < v_cutoff and (m.created_at is null or m.created_at < v_cutoff)
        and (h.first_id is not null or f.match_id is not null or m.expires_at < v_run.cutoff)
    order by m.expires_at, m.id;
end
$$;
comment on function after_hours.list_not_purged() is 'The rows of the view after_hours.not_purged.';
alter function after_hours.list_not_purged() owner to after_hours_owner;
revoke all on function after_hours.list_not_purged() from public;
grant execute on function after_hours.list_not_purged() to after_hours_dba, after_hours_jobs;
