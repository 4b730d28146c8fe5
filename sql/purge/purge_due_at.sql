create or replace function after_hours.purge_due_at(p_expires_at timestamptz, p_created_at timestamptz, p_retention interval)
returns timestamptz
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: the instant from which a match that is neither saved nor held is overdue.
    -- Returns: the later one of its expiry and its creation (null: not known), plus the retention, computed in UTC; infinity
    --          where that is out of range.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs, after_hours_moderator.
    if greatest(p_expires_at, p_created_at) >= '290000-01-01Z' then
        return 'infinity';
    end if;
    return (greatest(p_expires_at, p_created_at) at time zone 'UTC' + p_retention) at time zone 'UTC';
end
$$;
comment on function after_hours.purge_due_at(timestamptz, timestamptz, interval) is
'The instant from which an unsaved, unheld match is overdue: p_retention after its expiry, or after its creation if that is later.';
alter function after_hours.purge_due_at(timestamptz, timestamptz, interval) owner to after_hours_owner;
revoke all on function after_hours.purge_due_at(timestamptz, timestamptz, interval) from public;
grant execute on function after_hours.purge_due_at(timestamptz, timestamptz, interval)
to after_hours_dba, after_hours_jobs, after_hours_moderator;
