create or replace function after_hours.block_user(p_user_id uuid, p_until timestamptz, p_reason text)
returns after_hours.user_blocks
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_block after_hours.user_blocks;
begin
    -- Purpose: block a user at all relays until an instant (null: until unblock_user()) and close the user's connections.
    -- Returns: the block; a second block replaces the first.
    -- Locks:   the user's row of user_blocks; NOTIFY wakes the relays.
    -- Access:  after_hours_moderator.
    if p_until <= clock_timestamp() then
        raise exception using
            errcode = 'AH063',
            message = format('a block until %s is already over', p_until),
            hint = 'Give a future instant (now() + interval ''1 day'') or null; to lift a block: select after_hours.unblock_user(user_id);';
    end if;
    if coalesce(btrim(p_reason), '') = '' then
        raise exception using
            errcode = 'AH064',
            message = 'a block needs a reason, which is stored with it',
            hint = 'select after_hours.block_user(user_id, now() + interval ''1 day'', ''ticket 4711'');';
    end if;
    insert into after_hours.user_blocks as b (user_id, until, tokens_not_before, reason, changed_by, changed_at)
    values (p_user_id, coalesce(p_until, 'infinity'), clock_timestamp(), p_reason, session_user, clock_timestamp())
    on conflict (user_id) do update
        set until = excluded.until, tokens_not_before = excluded.tokens_not_before, reason = excluded.reason,
            changed_by = excluded.changed_by, changed_at = excluded.changed_at
    returning b.* into v_block;
    perform pg_notify('after_hours_events', '{}');
    return v_block;
end
$$;
comment on function after_hours.block_user(uuid, timestamptz, text) is
'Refuses a user at every relay until p_until (null: until unblock_user()) and closes the user''s connections. Errors AH063, '
'AH064.';
alter function after_hours.block_user(uuid, timestamptz, text) owner to after_hours_owner;
revoke all on function after_hours.block_user(uuid, timestamptz, text) from public;
grant execute on function after_hours.block_user(uuid, timestamptz, text) to after_hours_moderator;
