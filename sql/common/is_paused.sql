create or replace function after_hours.is_paused(p_job text)
returns boolean
language sql
volatile
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: whether a pause of this job is in force now. Volatile, because loops call it repeatedly in one CALL.
    -- Returns: true before the end of the pause; an expired pause does not count.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    select exists (select from after_hours.pauses as p where p.job = p_job and p.until > clock_timestamp());
$$;
comment on function after_hours.is_paused(text) is
'True while a pause of the job (announce, purge or housekeeping) is in force. See pause_job(), resume_job().';
alter function after_hours.is_paused(text) owner to after_hours_owner;
revoke all on function after_hours.is_paused(text) from public;
grant execute on function after_hours.is_paused(text) to after_hours_jobs, after_hours_dba;
