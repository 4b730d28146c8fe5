create or replace function after_hours.list_dependencies()
returns table (
    kind text, on_table text, name text, of_table text, effect text, is_red boolean, detail text,
    constraint_oid oid, is_counted boolean
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: list what the application has on its matches and messages: foreign keys, delete triggers, rules, row
    --          security, and the effect of each on a purge.
    -- Returns: a row each; is_red: it makes the purge slow or prevents it; is_counted: our owner role may read the
    --          referencing table, and it has an index for the key.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    with ours (oid) as (
        values ('public.after_hours_matches'::regclass), ('public.after_hours_messages'::regclass)
    ),

    keys as (
        select
            c.oid, c.conname, c.conrelid, c.confrelid, c.confdeltype, c.condeferrable, c.convalidated, c.conkey,
            c.conrelid = 'public.after_hours_messages'::regclass and c.confrelid = 'public.after_hours_matches'::regclass as is_own,
            exists (
                select
                from pg_index as i
                where i.indrelid = c.conrelid and i.indisvalid and i.indpred is null
                    and (i.indkey::smallint[])[0:cardinality(c.conkey) - 1] @> c.conkey
            ) as is_indexed,
            (
                select string_agg(quote_ident(a.attname), ', ' order by k.n)
                from unnest(c.conkey) with ordinality as k (attnum, n)
                join pg_attribute as a on a.attrelid = c.conrelid and a.attnum = k.attnum
            ) as columns
        from pg_constraint as c
        join ours as o on o.oid = c.confrelid
        where c.contype = 'f' and c.conparentid = 0 and c.conrelid <> 'after_hours.holds'::regclass
    )

    select
        'foreign key', k.confrelid::regclass::text, k.conname::text, k.conrelid::regclass::text,
        case
            when k.confdeltype in ('a', 'r') then 'keeps the match: a row there works like a hold'
            when k.confdeltype = 'c' then 'rows there are deleted too'
            when k.confdeltype = 'n' then 'the reference there becomes null'
            else 'the reference there becomes its default'
        end || case when k.condeferrable then ' (deferrable, but checked within the batch)' else '' end,
        not k.is_indexed,
        case
            when not k.is_indexed then format(
                'No index: each deleted row reads all of %s. create index concurrently on %s (%s);',
                k.conrelid::regclass, k.conrelid::regclass, k.columns
            )
        end,
        k.oid,
        k.is_indexed and has_table_privilege(k.conrelid, 'select') and not row_security_active(k.conrelid)
    from keys as k
    where not k.is_own
    union all
    select
        'foreign key', k.confrelid::regclass::text, k.conname::text, k.conrelid::regclass::text,
        'messages can''t outlive their match' || case when k.convalidated then '' else ' (not valid: older orphans may exist)' end,
        k.confdeltype not in ('a', 'r') or not after_hours.has_enforced_key(),
        case when k.confdeltype not in ('a', 'r') or not after_hours.has_enforced_key()
            then 'It cascades or is disabled; the purge checks after each batch itself, which is slower.' end,
        k.oid,
        false
    from keys as k
    where k.is_own
    union all
    select
        'trigger', t.tgrelid::regclass::text, t.tgname::text, null,
        case
            when t.tgtype & 2 = 2 and t.tgtype & 1 = 1 then 'runs before each delete and may keep the row: the match is then set aside'
            else 'runs with each delete'
        end || case when t.tgenabled = 'D' then ' (disabled)' else '' end,
        false, pg_get_triggerdef(t.oid), null, false
    from pg_trigger as t
    join ours as o on o.oid = t.tgrelid
    where not t.tgisinternal and t.tgtype & 8 = 8
    union all
    select 'rule', r.ev_class::regclass::text, r.rulename::text, null, 'rewrites deletes', true, pg_get_ruledef(r.oid), null, false
    from pg_rewrite as r
    join ours as o on o.oid = r.ev_class
    where r.ev_type = '4'
    union all
    select
        'row security', c.oid::regclass::text, null, null,
        case when row_security_active(c.oid) then 'hides rows from after_hours_owner: no purge' else 'on, after_hours_owner is exempt' end,
        row_security_active(c.oid),
        case when row_security_active(c.oid) then 'alter role after_hours_owner bypassrls;' end,
        null, false
    from pg_class as c
    join ours as o on o.oid = c.oid
    where c.relrowsecurity
    order by 6 desc, 1, 2, 3;
$$;
comment on function after_hours.list_dependencies() is
'The application''s foreign keys, delete triggers, rules and row security on matches and messages, and what each means '
'for a purge; is_red: must be fixed.';
alter function after_hours.list_dependencies() owner to after_hours_owner;
revoke all on function after_hours.list_dependencies() from public;
grant execute on function after_hours.list_dependencies() to after_hours_dba, after_hours_jobs;
