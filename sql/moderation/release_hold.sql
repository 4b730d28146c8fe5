create or replace function after_hours.release_hold(p_hold_id bigint, p_reason text)
returns after_hours.hold_log
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    v_log after_hours.hold_log;
begin
    -- Purpose: end a hold. A match past its retention without another hold is deleted by the next run.
    -- Returns: the row written to hold_log.
    -- Locks:   holds; waits for a running batch.
    -- Access:  after_hours_dba, after_hours_moderator.
    if coalesce(btrim(p_reason), '') = '' then
        raise exception using
            errcode = 'AH007',
            message = 'releasing a hold needs a reason',
            hint = format('select after_hours.release_hold(%s, ''report dismissed'');', p_hold_id);
    end if;
    with released as (
        delete from after_hours.holds as h where h.id = p_hold_id returning h.*
    )

    insert into after_hours.hold_log (
        id, match_id, user_id, kind, reason, keep_until, placed_by, placed_at, released_by, release_reason
    )
    select r.id, r.match_id, r.user_id, r.kind, r.reason, r.keep_until, r.placed_by, r.placed_at, session_user, p_reason
    from released as r
    returning * into v_log;
    if not found then
        select l.* into v_log from after_hours.hold_log as l where l.id = p_hold_id;
        raise exception using
            errcode = 'AH006',
            message = case
                when v_log.id is null then format('there is no hold %s', p_hold_id)
                else format('hold %s was released at %s by %s: %s', p_hold_id, after_hours.iso_utc(v_log.released_at),
                    v_log.released_by, v_log.release_reason)
            end,
            hint = 'select * from after_hours.holds;';
    end if;
    return v_log;
exception when lock_not_available then
    raise exception using
        errcode = 'AH009',
        message = 'after_hours.holds is locked by another transaction; the hold is still in force',
        hint = 'Repeat the call.';
end
$$;
comment on function after_hours.release_hold(bigint, text) is
'Ends a hold and moves it to hold_log, with who ended it and why. Returns that row. Errors AH006 (unknown or already released), '
'AH007 (no reason), AH009 (locked).';
alter function after_hours.release_hold(bigint, text) owner to after_hours_owner;
revoke all on function after_hours.release_hold(bigint, text) from public;
grant execute on function after_hours.release_hold(bigint, text) to after_hours_moderator, after_hours_dba;
