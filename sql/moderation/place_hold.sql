create or replace function after_hours.place_hold(p_match_id uuid, p_kind text, p_reason text, p_keep_until timestamptz default null)
returns after_hours.holds
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set lock_timeout = '5s'
as $$
declare
    v_hold after_hours.holds;
    v_purged_at timestamptz;
begin
    -- Purpose: protect a match and its messages from the purge, from the commit on until p_keep_until, or until released
    --          if that is null. A match may have several holds; each counts.
    -- Returns: the hold; release_hold() takes its id.
    -- Locks:   the match's row (FOR KEY SHARE), then holds: everywhere in this order. Waits for a batch that has locked
    --          the match.
    -- Access:  after_hours_dba, after_hours_moderator.
    perform after_hours._assert_tables();
    perform after_hours.validate_hold(p_kind, p_reason, p_keep_until);
    perform from public.after_hours_matches as m where m.id = p_match_id for key share;
    if not found then
        v_purged_at := after_hours.purged_at(p_match_id);
        if v_purged_at is not null then
            raise exception using
                errcode = 'AH004',
                message = format('match %s was purged at %s', p_match_id, after_hours.iso_utc(v_purged_at)),
                hint = 'It can''t be brought back. To protect the users'' other matches: select '
                    'after_hours.place_user_hold(user_id, kind, reason);';
        end if;
        raise exception using
            errcode = 'AH003',
            message = format('there is no match %s', p_match_id),
            hint = 'select distinct match_id from after_hours.retained_messages where sender_id = …;';
    end if;
    insert into after_hours.holds (match_id, kind, reason, keep_until, placed_by)
    values (p_match_id, p_kind, p_reason, p_keep_until, session_user)
    returning * into v_hold;
    return v_hold;
exception
    when lock_not_available then
        raise exception using
            errcode = 'AH009',
            message = format('match %s is locked by another transaction; no hold was placed', p_match_id),
            hint = 'Repeat the call. If it is still locked: select * from pg_stat_activity where state = ''idle in transaction'';';
    when foreign_key_violation then
        raise exception using
            errcode = 'AH004',
            message = format('match %s was purged while this transaction was open', p_match_id),
            hint = 'It can''t be brought back. ROLLBACK, then check: select after_hours.purged_at(match_id);';
end
$$;
comment on function after_hours.place_hold(uuid, text, text, timestamptz) is
'Protects a match from the purge: kind is report, legal, appeal or manual; keep_until null means until released. Returns '
'the hold. Errors AH003 (unknown), AH004 (already purged), AH007 (arguments), AH009 (locked).';
alter function after_hours.place_hold(uuid, text, text, timestamptz) owner to after_hours_owner;
revoke all on function after_hours.place_hold(uuid, text, text, timestamptz) from public;
grant execute on function after_hours.place_hold(uuid, text, text, timestamptz) to after_hours_moderator, after_hours_dba;
