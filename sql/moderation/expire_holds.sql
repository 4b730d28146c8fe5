create or replace function after_hours.expire_holds()
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    v_count integer;
begin
    -- Purpose: move holds whose keep_until has passed to hold_log. Until they are moved they still count, so a late run
    --          loses nothing. While the brake is on no hold expires: a wrong clock must not end holds.
    -- Returns: the number moved; call again until 0.
    -- Locks:   holds.
    -- Access:  after_hours_dba, after_hours_jobs.
    if not exists (select from after_hours.holds as h where h.keep_until <= clock_timestamp()) or (after_hours.brake()).is_on then
        return 0;
    end if;
    with lapsed as (
        delete from after_hours.holds as h
        where h.id in (select o.id from after_hours.holds as o where o.keep_until <= clock_timestamp() limit 5000)
        returning h.*
    )

    insert into after_hours.hold_log (
        id, match_id, user_id, kind, reason, keep_until, placed_by, placed_at, released_by, release_reason
    )
    select l.id, l.match_id, l.user_id, l.kind, l.reason, l.keep_until, l.placed_by, l.placed_at, session_user, 'keep_until has passed'
    from lapsed as l;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
comment on function after_hours.expire_holds() is
'Moves up to 5,000 holds whose keep_until has passed to hold_log; none while the brake is on. Returns their number.';
alter function after_hours.expire_holds() owner to after_hours_owner;
revoke all on function after_hours.expire_holds() from public;
grant execute on function after_hours.expire_holds() to after_hours_jobs, after_hours_dba;
