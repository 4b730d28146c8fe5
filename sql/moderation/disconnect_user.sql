create or replace function after_hours.disconnect_user(p_user_id uuid, p_reason text)
returns after_hours.user_blocks
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_block after_hours.user_blocks;
begin
    -- Purpose: close a user's connections at all relays; after that only tokens issued later are accepted.
    -- Returns: the user's row; a block in force stays as it is.
    -- Locks:   the user's row of user_blocks; NOTIFY wakes the relays.
    -- Access:  after_hours_moderator.
    if coalesce(btrim(p_reason), '') = '' then
        raise exception using
            errcode = 'AH064',
            message = 'disconnecting a user needs a reason, which is stored with it',
            hint = 'select after_hours.disconnect_user(user_id, ''ticket 4711: password changed'');';
    end if;
    insert into after_hours.user_blocks as b (user_id, until, tokens_not_before, reason, changed_by, changed_at)
    values (p_user_id, null, clock_timestamp(), p_reason, session_user, clock_timestamp())
    on conflict (user_id) do update
        set tokens_not_before = excluded.tokens_not_before, reason = excluded.reason,
            changed_by = excluded.changed_by, changed_at = excluded.changed_at
    returning b.* into v_block;
    perform pg_notify('after_hours_events', '{}');
    return v_block;
end
$$;
comment on function after_hours.disconnect_user(uuid, text) is
'Closes a user''s connections at every relay; tokens issued before the call are refused after it. Error AH064.';
alter function after_hours.disconnect_user(uuid, text) owner to after_hours_owner;
revoke all on function after_hours.disconnect_user(uuid, text) from public;
grant execute on function after_hours.disconnect_user(uuid, text) to after_hours_moderator;
