create or replace function after_hours.explain_match(p_match_id uuid)
returns table (item text, value text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: explain one match: everything that decides about its purge, and what will happen to it.
    -- Returns: a row per fact, the verdict first; raises AH003 only if nothing is known about it.
    -- Locks:   all tables ACCESS SHARE.
    -- Access:  after_hours_dba.
    perform after_hours._share_tables(); -- then, in a second statement, one snapshot of all
    return query select * from after_hours._explain_match(p_match_id);
end
$$;
comment on function after_hours.explain_match(uuid) is
'Why a match stays or is deleted: verdict, expiry, holds past and present, errors, rows that reference it; warns if it '
'was un-saved. Error AH003.';
alter function after_hours.explain_match(uuid) owner to after_hours_owner;
revoke all on function after_hours.explain_match(uuid) from public;
grant execute on function after_hours.explain_match(uuid) to after_hours_dba;
