create or replace function after_hours.has_enforced_key()
returns boolean
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: whether a foreign key without cascade, enforced in this session, prevents messages without a match. Then the
    --          delete of a match proves that none of its messages is left, and no second check is needed.
    -- Returns: false if the key is missing, cascading or disabled, or under session_replication_role = replica.
    -- Locks:   none.
    -- Access:  internal.
    select current_setting('session_replication_role') <> 'replica' and exists (
        select
        from pg_constraint as c
        join pg_trigger as t on t.tgconstraint = c.oid and t.tgrelid = c.confrelid and t.tgtype & 8 = 8
        where c.conrelid = 'public.after_hours_messages'::regclass
            and c.confrelid = 'public.after_hours_matches'::regclass
            and c.contype = 'f' and c.confdeltype in ('a', 'r') and t.tgenabled in ('O', 'A')
    );
$$;
comment on function after_hours.has_enforced_key() is
'True if an enabled NO ACTION or RESTRICT foreign key from messages to matches is in force in this session.';
alter function after_hours.has_enforced_key() owner to after_hours_owner;
revoke all on function after_hours.has_enforced_key() from public;
