create or replace function after_hours.list_backlog()
returns table (due_day date, matches bigint, held bigint, set_aside bigint, oldest timestamptz, overdue_by interval)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set jit = off
as $$
declare
    v_cutoff timestamptz := after_hours.purge_cutoff();
begin
    -- Purpose: count the matches past their retention, by the UTC day on which they became due: those that the next run
    --          deletes (matches), and those that stay (held, set aside).
    -- Returns: a row per day, the oldest first; right after a run there should be none.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    perform after_hours.assert_access('public.after_hours_matches', 'public.after_hours_messages');
    return query
    select
        (after_hours.purge_due_at(m.expires_at, m.created_at, s.retention) at time zone 'UTC')::date,
        count(p.id) - count(f.match_id) filter (where p.id is not null),
        count(*) - count(p.id),
        count(f.match_id) filter (where p.id is not null),
        min(m.expires_at),
        case when isfinite(min(m.expires_at)) then
            clock_timestamp() - min(after_hours.purge_due_at(m.expires_at, m.created_at, s.retention))
        end
    from public.after_hours_matches as m
    cross join after_hours.settings as s
    left join after_hours.purgeable_matches as p on p.id = m.id and p.expires_at < v_cutoff
    left join after_hours.purge_failures as f on f.match_id = m.id
    where m.converted_to_match_id is null and m.expires_at < v_cutoff and (m.created_at is null or m.created_at < v_cutoff)
    group by 1
    order by 1;
end
$$;
comment on function after_hours.list_backlog() is 'The rows of the view after_hours.backlog.';
alter function after_hours.list_backlog() owner to after_hours_owner;
revoke all on function after_hours.list_backlog() from public;
grant execute on function after_hours.list_backlog() to after_hours_dba, after_hours_jobs;
