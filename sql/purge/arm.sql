create or replace function after_hours.arm(p_reason text)
returns after_hours.brake_releases
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_release after_hours.brake_releases;
begin
    -- Purpose: release the brake: runs delete what is overdue until one of them succeeds, for a day at most. Also confirms
    --          that this database on this server is the one at work: a copy announces, purges and pushes nothing before. Recorded permanently, with who and why.
    -- Returns: the release.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    if coalesce(btrim(p_reason), '') = '' then
        raise exception using
            errcode = 'AH017',
            message = 'releasing the brake needs a reason, which is stored with it',
            hint = 'select after_hours.arm(''ticket 4711: backlog of the adopted tables, checked with the preview'');';
    end if;
    insert into after_hours.brake_releases (released_by, reason, system_identifier, database_name, retention)
    select session_user, p_reason, i.system_identifier, i.database_name, s.retention
    from after_hours.database_identity() as i
    cross join after_hours.settings as s
    returning * into v_release;
    return v_release;
end
$$;
comment on function after_hours.arm(text) is
'Releases the purge''s brake for this database until a run succeeds, for a day at most, and a copy, which before announces, '
'purges and pushes nothing; records who and why. Check first: select * from after_hours.purge_preview(). Error AH017.';
alter function after_hours.arm(text) owner to after_hours_owner;
revoke all on function after_hours.arm(text) from public;
grant execute on function after_hours.arm(text) to after_hours_dba;
