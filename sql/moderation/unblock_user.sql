create or replace function after_hours.unblock_user(p_user_id uuid)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: lift a block. Tokens issued before the block stay refused: the user's client must fetch a new one.
    -- Returns: true if a block was in force.
    -- Locks:   the user's row of user_blocks.
    -- Access:  after_hours_moderator.
    update after_hours.user_blocks as b
    set until = null, changed_by = session_user, changed_at = clock_timestamp()
    where b.user_id = p_user_id and b.until > clock_timestamp();
    return found;
end
$$;
comment on function after_hours.unblock_user(uuid) is
'Lifts a block made by block_user(); true if one was in force.';
alter function after_hours.unblock_user(uuid) owner to after_hours_owner;
revoke all on function after_hours.unblock_user(uuid) from public;
grant execute on function after_hours.unblock_user(uuid) to after_hours_moderator;
