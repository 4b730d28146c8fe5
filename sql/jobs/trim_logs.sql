create or replace function after_hours.trim_logs(p_limit integer default 5000)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_count integer;
    v_total integer := 0;
begin
    -- Purpose: delete outdated rows: receipts and pushes past settings.receipt_retention, relays not seen for a day, pauses that ended
    --          a week ago, set-aside rows whose session has another deadline or was deleted.
    -- Returns: the number of rows; call again until 0. The caller commits in between.
    -- Locks:   the rows deleted.
    -- Access:  after_hours_dba, after_hours_jobs.
    perform after_hours._assert_tables();
    delete from after_hours.receipts as r
    where (r.uid, r.node) in (
        select o.uid, o.node
        from after_hours.receipts as o
        where o.emitted_at < clock_timestamp() - (select s.receipt_retention from after_hours.settings as s)
        limit p_limit
    );
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
    delete from after_hours.pushes as p
    where p.id in (
        select o.id
        from after_hours.pushes as o
        where o.finished_at < clock_timestamp() - (select s.receipt_retention from after_hours.settings as s)
        limit p_limit
    );
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
    delete from after_hours.relays as r where r.seen_at < clock_timestamp() - interval '1 day';
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
    delete from after_hours.pauses as p where p.until < clock_timestamp() - interval '7 days';
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
    delete from after_hours.set_aside as a
    where not exists (
        select from public.after_hours_sessions as s
        where s.id = a.session_id and least(s.ended_at, s.expires_at) = a.deadline
            and (a.type = 'after_hours:session_expired' or s.expires_at > clock_timestamp())
    );
    get diagnostics v_count = row_count;
    return v_total + v_count;
end
$$;
comment on function after_hours.trim_logs(integer) is
'Deletes old receipts and pushes, relays not seen for a day, ended pauses and outdated set-aside rows, up to p_limit receipts at a '
'time. Returns the number of rows.';
alter function after_hours.trim_logs(integer) owner to after_hours_owner;
revoke all on function after_hours.trim_logs(integer) from public;
grant execute on function after_hours.trim_logs(integer) to after_hours_jobs, after_hours_dba;
