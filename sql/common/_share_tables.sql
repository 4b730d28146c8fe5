create or replace function after_hours._share_tables()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: lock our and the application's tables against being rewritten, before the statement that reads them. A snapshot
    --          taken before the wait for a rewriting ALTER TABLE (TRUNCATE, pg_repack) sees an empty table.
    -- Returns: nothing. Raises AH047 if one of the application's is no plain table.
    -- Locks:   all tables ACCESS SHARE, until the caller's transaction ends; waits as long as lock_timeout allows.
    -- Access:  internal.
    execute (
        select format('lock table %s in access share mode', string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by c.oid))
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') -- of a partitioned table its partitions too
            and (n.nspname = 'after_hours' or n.nspname = 'public'
                and c.relname in ('after_hours_sessions', 'after_hours_matches', 'after_hours_messages'))
    );
    perform after_hours._assert_tables();
end
$$;
comment on function after_hours._share_tables() is
'Locks all our and the application''s tables in ACCESS SHARE mode: what reads them next sees all their rows. Internal.';
alter function after_hours._share_tables() owner to after_hours_owner;
revoke all on function after_hours._share_tables() from public;
