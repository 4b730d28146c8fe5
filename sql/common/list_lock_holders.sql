create or replace function after_hours.list_lock_holders(
    p_xids xid[] default '{}', p_min_age interval default interval '2 seconds'
)
returns table (pid integer, gid text, object text, since timestamptz, description text, statement text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: name who holds, or waits in front of us for, a lock that keeps announcing, the purge or housekeeping from their
    --          tables; and whose transaction each of p_xids is (the xmax of locked rows).
    -- Returns: a row per transaction and object, the oldest first: object, since when (start of the transaction, or of the wait),
    --          a description in one line, and the statement that ends it. A process has a pid, a prepared transaction a gid.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    with needed as (
        -- what we ask for on each table; the rest of the schema is written as well
        select
            c.oid,
            format('%I.%I', n.nspname, c.relname) as name,
            case
                when n.nspname = 'after_hours' and c.relname = 'emitter' then 'ExclusiveLock'
                when n.nspname = 'after_hours' and c.relname = 'holds' then 'ShareLock'
                else 'RowExclusiveLock'
            end as mode
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p')
            and (n.nspname = 'after_hours' or n.nspname = 'public'
                and c.relname in ('after_hours_sessions', 'after_hours_matches', 'after_hours_messages'))
    ),

    conflicts (mode, held) as (
        values
        ('RowExclusiveLock', array['ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock']),
        ('ShareLock', array[
            'RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'
        ]),
        ('ExclusiveLock', array[
            'RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
            'AccessExclusiveLock'
        ])
    ),

    locks as (
        select l.pid, l.virtualtransaction, l.granted, l.waitstart,
            upper(btrim(regexp_replace(replace(l.mode, 'Lock', ''), '([A-Z])', ' \1', 'g'))) || ' on ' || n.name as object
        from pg_locks as l
        join needed as n on n.oid = l.relation
        join conflicts as c on c.mode = n.mode and l.mode = any(c.held)
        where l.locktype = 'relation' and l.database = (select d.oid from pg_database as d where d.datname = current_database())
        union all
        select l.pid, l.virtualtransaction, true, null, 'a row'
        from pg_locks as l
        where l.locktype = 'transactionid' and l.transactionid = any(p_xids) and l.granted
    ),

    held as (
        select t.*, l.object, l.granted, coalesce(l.waitstart, t.since) as held_since,
            case when not l.granted then pg_blocking_pids(l.pid) end as behind
        from locks as l
        join after_hours._list_transactions() as t on t.pid = l.pid or l.pid is null and t.virtualtransaction = l.virtualtransaction
    )

    select h.pid, h.gid, h.object, h.held_since,
        format('%s by %s (role %s%s%s) since %s%s%s',
            case when h.granted then h.object else h.object || ' waited for' end,
            case when h.gid is null then 'pid ' || h.pid else format('the prepared transaction %L', h.gid) end,
            h.owner,
            case when h.application <> '' then ', ' || h.application end,
            case when h.state <> 'active' then ', ' || h.state end,
            to_char(h.held_since at time zone 'UTC', 'HH24:MI:SS"Z"'),
            case when h.behind <> '{}' then ' behind pid ' || array_to_string(h.behind, ', ') end,
            case when h.query <> '' then ': ' || h.query end
        ),
        h.statement
    from held as h
    where h.held_since < clock_timestamp() - p_min_age
    order by h.held_since, h.pid
$$;
comment on function after_hours.list_lock_holders(xid[], interval) is
'Who has held a lock for longer than p_min_age that keeps announcing, the purge or housekeeping from their tables, or locks '
'the rows with these xmax; with the statement that ends each. Read by health, purge() and explain_match().';
alter function after_hours.list_lock_holders(xid[], interval) owner to after_hours_owner;
revoke all on function after_hours.list_lock_holders(xid[], interval) from public;
grant execute on function after_hours.list_lock_holders(xid[], interval) to after_hours_jobs, after_hours_dba;
