create or replace function after_hours.place_user_hold(p_user_id uuid, p_kind text, p_reason text, p_keep_until timestamptz default null)
returns after_hours.holds
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    v_hold after_hours.holds;
begin
    -- Purpose: protect all matches of a user, present and future, from the purge until p_keep_until or until released.
    -- Returns: the hold.
    -- Locks:   holds; waits for a running batch.
    -- Access:  after_hours_dba, after_hours_moderator.
    perform after_hours.validate_hold(p_kind, p_reason, p_keep_until);
    if p_user_id is null then
        raise exception using
            errcode = 'AH007',
            message = 'a user hold needs a user id',
            hint = 'select after_hours.place_user_hold(user_id, ''legal'', ''case 4711'');';
    end if;
    insert into after_hours.holds (user_id, kind, reason, keep_until, placed_by)
    values (p_user_id, p_kind, p_reason, p_keep_until, session_user)
    returning * into v_hold;
    return v_hold;
exception when lock_not_available then
    raise exception using
        errcode = 'AH009',
        message = 'after_hours.holds is locked by another transaction; no hold was placed',
        hint = 'Repeat the call.';
end
$$;
comment on function after_hours.place_user_hold(uuid, text, text, timestamptz) is
'Protects every match of a user, present and future, from the purge. Same kinds and keep_until as place_hold(). Returns '
'the hold. Errors AH007, AH009.';
alter function after_hours.place_user_hold(uuid, text, text, timestamptz) owner to after_hours_owner;
revoke all on function after_hours.place_user_hold(uuid, text, text, timestamptz) from public;
grant execute on function after_hours.place_user_hold(uuid, text, text, timestamptz) to after_hours_moderator, after_hours_dba;
