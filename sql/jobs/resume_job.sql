create or replace function after_hours.resume_job(p_job text)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: end a pause early. What became due meanwhile is done at once.
    -- Returns: true if a pause was in force.
    -- Locks:   none beyond its row.
    -- Access:  after_hours_dba.
    delete from after_hours.pauses as p where p.job = p_job and p.until > clock_timestamp();
    return found;
end
$$;
comment on function after_hours.resume_job(text) is
'Ends a pause of announce, purge or housekeeping; true if one was in force. The job continues at its next pass or run.';
alter function after_hours.resume_job(text) owner to after_hours_owner;
revoke all on function after_hours.resume_job(text) from public;
grant execute on function after_hours.resume_job(text) to after_hours_dba;
