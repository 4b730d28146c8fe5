create or replace function after_hours.verify_evidence()
returns table (run_id bigint, batch integer, ok boolean, detail text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: recompute the whole chain: each batch's hash from its tombstones and the hash before it, from the anchor
    --          to the head. Reads one snapshot: a purge may run meanwhile.
    -- Returns: a row per batch in the order of the chain; the first with ok = false is where the chain was changed, and
    --          detail names the tombstone; then one row (run_id null) about the whole chain.
    -- Locks:   all tables ACCESS SHARE.
    -- Access:  after_hours_dba.
    perform after_hours._share_tables(); -- then, in a second statement, one snapshot of all
    return query select * from after_hours._verify_evidence();
end
$$;
comment on function after_hours.verify_evidence() is
'Recomputes the hash chain over all tombstones: a row per batch (the first with ok = false is the first broken one; '
'detail names the tombstone), then one row about the whole chain. Compare the head with the one in the server log.';
alter function after_hours.verify_evidence() owner to after_hours_owner;
revoke all on function after_hours.verify_evidence() from public;
grant execute on function after_hours.verify_evidence() to after_hours_dba;
