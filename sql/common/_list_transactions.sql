create or replace function after_hours._list_transactions()
returns table (
    pid integer, virtualtransaction text, gid text, owner name, application text, state text, since timestamptz, query text, statement text
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: open transactions of the server, to name whose lock one waits for. Rows of pg_locks join by pid, those of a
    --          prepared transaction (pid null) by virtualtransaction.
    -- Returns: a row per transaction: its start (of a prepared one, the instant of PREPARE), the query, and the statement that
    --          ends it. Query text only up to its first quote: it may hold what users wrote.
    -- Locks:   none. Owned by after_hours_jobs: it needs pg_monitor to see the queries of others.
    -- Access:  after_hours_jobs.
    select
        a.pid, null, null, a.usename, a.application_name, a.state, a.xact_start,
        left(split_part(regexp_replace(a.query, '\s+', ' ', 'g'), '''', 1), 80),
        format('select pg_terminate_backend(%s);', a.pid)
    from pg_stat_activity as a
    where a.xact_start is not null and a.pid <> pg_backend_pid()
    union all
    select null, l.virtualtransaction, p.gid, p.owner, null, null, p.prepared, null, format('rollback prepared %L;', p.gid)
    from pg_prepared_xacts as p
    -- the lock on its id has the same virtual transaction as its others
    join pg_locks as l on l.locktype = 'transactionid' and l.transactionid = p.transaction and l.pid is null;
$$;
comment on function after_hours._list_transactions() is
'Open transactions, prepared ones as well, with the statement that ends each. Internal, used by list_lock_holders() and by '
'alembic.';
alter function after_hours._list_transactions() owner to after_hours_jobs;
revoke all on function after_hours._list_transactions() from public;
grant execute on function after_hours._list_transactions() to after_hours_jobs, after_hours_owner;
