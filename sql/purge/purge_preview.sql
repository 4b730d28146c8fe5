create or replace function after_hours.purge_preview()
returns table (section text, item text, matches bigint, messages bigint, bytes bigint, is_estimate boolean, detail text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: what a purge started now would delete and what it would leave, by its own predicate
    --          (purgeable_matches); deletes nothing.
    -- Returns: sections brake, due, day, excluded, tie. Above 20,000 due matches messages and bytes are estimated from
    --          a sample of about 1,000 of them, and is_estimate is true.
    -- Locks:   all tables ACCESS SHARE.
    -- Access:  after_hours_dba.
    perform after_hours._share_tables(); -- then, in a second statement, one snapshot of all
    return query select * from after_hours._purge_preview();
end
$$;
comment on function after_hours.purge_preview() is
'What a purge started now would delete (counts, bytes, days), what it would leave and why, the brake, and the '
'application''s foreign keys and triggers. Uses the purge''s own predicate and deletes nothing. Of large '
'backlogs messages and bytes are estimated (is_estimate).';
alter function after_hours.purge_preview() owner to after_hours_owner;
revoke all on function after_hours.purge_preview() from public;
grant execute on function after_hours.purge_preview() to after_hours_dba;
