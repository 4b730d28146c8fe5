create or replace view after_hours.purge_history
with (security_barrier = true)
as
-- The union is in FROM: PostgreSQL ignores security_barrier on a view that is itself a union.
select
    h.run_id, h.slot, h.trigger, h.status, h.started_at, h.finished_at, h.duration, h.run_by, h.client, h.retention, h.cutoff, h.match_id,
    h.due_matches, h.matches, h.messages, h.batches, h.longest_batch, h.skipped, h.failed, h.override_reason, h.detail
from (
    select
        r.id as run_id, r.slot, r.trigger, r.status, r.started_at, r.finished_at,
        coalesce(r.finished_at, clock_timestamp()) - r.started_at as duration,
        r.run_by, r.client, r.retention, r.cutoff, r.match_id, r.due_matches, r.matches, r.messages, r.batches, r.longest_batch,
        r.skipped, r.failed, r.override_reason,
        case when r.status = 'running' then nullif(concat_ws('; ', r.detail, 'waits for ' || r.waits_for), '') else r.detail end as detail
    from after_hours.purge_runs as r
    union all
    select
        -- named: a view that was restored from a dump is printed with names, and would count as edited
        null as run_id, s.slot as slot, 'schedule' as trigger, 'missed' as status, s.slot as started_at, null as finished_at,
        null as duration, null as run_by, null as client, null as retention, null as cutoff, null as match_id, null as due_matches,
        null as matches, null as messages, null as batches, null as longest_batch, null as skipped, null as failed,
        null as override_reason,
        case
            when s.slot = after_hours.latest_slot() then 'no run yet: the hourly catch-up will do it'
            else 'no run: the next one included its matches'
        end as detail
    from after_hours.settings as t
    cross join lateral generate_series(
        after_hours.latest_slot(greatest(t.announce_since, clock_timestamp() - t.tombstone_retention) + interval '1 day'),
        after_hours.latest_slot(), interval '24 hours'
    ) as s (slot)
    where s.slot < clock_timestamp() - interval '1 minute'
        and not exists (select from after_hours.purge_runs as r where r.slot = s.slot)
) as h
order by h.started_at desc;
comment on view after_hours.purge_history is
'Every purge run, the latest first: who, when, why, cutoff, counts, duration, details; and each 03:00 UTC without a run, '
'as missed. Kept for settings.tombstone_retention.';
alter view after_hours.purge_history owner to after_hours_owner;
revoke all on after_hours.purge_history from public;
grant select on after_hours.purge_history to after_hours_dba, after_hours_jobs;
