create or replace function after_hours.save_match(p_match_id uuid, p_converted_to uuid)
returns public.after_hours_matches
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_match public.after_hours_matches;
    v_purged_at timestamptz;
begin
    -- Purpose: save a match permanently. After the commit no purge deletes it. Waits for a purge batch that has the row locked.
    -- Returns: the changed row; a second call with the same permanent match changes nothing.
    -- Locks:   the match's row.
    -- Access:  after_hours_app.
    if p_converted_to is null then
        raise exception using
            errcode = 'AH005',
            message = 'saving a match needs the id of the permanent match',
            hint = 'select after_hours.save_match(match_id, permanent_match_id);';
    end if;
    update public.after_hours_matches as m
    set converted_to_match_id = p_converted_to
    where m.id = p_match_id and (m.converted_to_match_id is null or m.converted_to_match_id = p_converted_to)
    returning * into v_match;
    if found then
        return v_match;
    end if;
    select m.* into v_match from public.after_hours_matches as m where m.id = p_match_id;
    if found then
        raise exception using
            errcode = 'AH005',
            message = format('match %s is already saved as %s', p_match_id, v_match.converted_to_match_id),
            hint = 'Nothing was changed. Use the permanent match named above.';
    end if;
    v_purged_at := after_hours.purged_at(p_match_id);
    if v_purged_at is not null then
        raise exception using
            errcode = 'AH004',
            message = format('match %s was purged at %s', p_match_id, after_hours.iso_utc(v_purged_at)),
            hint = format('It can''t be brought back. The DBA sees the receipt: select after_hours.deletion_receipt(%L);', p_match_id);
    end if;
    raise exception using
        errcode = 'AH003',
        message = format('there is no match %s', p_match_id),
        hint = 'List a user''s matches: select * from public.after_hours_matches where user_a = … or user_b = …;';
end
$$;
comment on function after_hours.save_match(uuid, uuid) is
'Saves a match (sets converted_to_match_id): from then on it is never purged. Returns the row. Errors AH003 (unknown), '
'AH004 (already purged), AH005 (saved as another).';
alter function after_hours.save_match(uuid, uuid) owner to after_hours_owner;
revoke all on function after_hours.save_match(uuid, uuid) from public;
grant execute on function after_hours.save_match(uuid, uuid) to after_hours_app;
