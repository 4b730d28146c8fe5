create or replace function after_hours.validate_hold(p_kind text, p_reason text, p_keep_until timestamptz)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: check the kind, the reason and the end of a new hold.
    -- Returns: nothing, or raises AH007.
    -- Locks:   none.
    -- Access:  internal.
    if p_kind is null or p_kind not in ('report', 'legal', 'appeal', 'manual') then
        raise exception using
            errcode = 'AH007',
            message = format('%L is not a kind of hold', p_kind),
            hint = 'Kinds: report, legal, appeal, manual.';
    elsif coalesce(btrim(p_reason), '') = '' then
        raise exception using
            errcode = 'AH007',
            message = 'a hold needs a reason',
            hint = 'select after_hours.place_hold(match_id, ''report'', ''ticket 4711'');';
    elsif p_keep_until <= clock_timestamp() then
        raise exception using
            errcode = 'AH007',
            message = format('keep_until %s has passed already', after_hours.iso_utc(p_keep_until)),
            hint = 'Give a future instant, or null for a hold until it is released.';
    end if;
end
$$;
comment on function after_hours.validate_hold(text, text, timestamptz) is
'Checks kind, reason and keep_until of a new hold; error AH007.';
alter function after_hours.validate_hold(text, text, timestamptz) owner to after_hours_owner;
revoke all on function after_hours.validate_hold(text, text, timestamptz) from public;
