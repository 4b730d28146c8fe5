create or replace function after_hours.examine_replication()
returns table (subject text, ok boolean, finding text, advice text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: logical replication of the application's tables: what a purge here does to a subscriber, what a hold is worth on one.
    -- Returns: a row per publication and subscription that has one of them; not ok until settings.accepted_publications names it. A
    --          table without replica identity in a publication of deletes is never ok: each DELETE fails.
    -- Locks:   none; reads the catalog.
    -- Access:  internal.
    with published as (
        select p.pubname, t.schemaname || '.' || t.tablename as name, p.pubdelete, p.pubupdate,
            case c.relreplident
                when 'f' then true
                when 'd' then exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary)
                when 'i' then exists (select from pg_index as i where i.indrelid = c.oid and i.indisreplident and i.indisvalid)
                else false
            end as has_identity
        from pg_publication as p
        join pg_publication_tables as t on t.pubname = p.pubname
        join pg_namespace as n on n.nspname = t.schemaname
        join pg_class as c on c.relnamespace = n.oid and c.relname = t.tablename
        where t.schemaname = 'public' and t.tablename in ('after_hours_sessions', 'after_hours_matches', 'after_hours_messages')
    )

    select
        'publication ' || p.pubname, p.pubname = any(s.accepted_publications),
        string_agg(p.name, ', ' order by p.name) || case
            when bool_or(p.pubdelete) then ': a subscriber deletes what is purged here, also what it holds itself, and has no tombstone of it'
            else ' without deletes: a subscriber keeps everything until it purges by itself'
        end,
        format('holds belong here. If the subscriber is to keep and purge by itself: alter publication %I set (publish = ''insert, update''); '
            'if it is meant so: update after_hours.settings set accepted_publications = accepted_publications || %L::text;', p.pubname, p.pubname)
    from published as p
    cross join after_hours.settings as s
    group by p.pubname, s.accepted_publications
    union all
    select
        format('replica identity of %s in publication %s', p.name, p.pubname), false,
        'without one each DELETE and UPDATE of the table fails: nothing is purged',
        format('alter table %s add primary key (id); or: alter table %s replica identity full;', p.name, p.name)
    from published as p
    where not p.has_identity and (p.pubdelete or p.pubupdate)
    union all
    select
        'subscription ' || u.subname, u.subname = any(s.accepted_publications),
        string_agg(r.srrelid::regclass::text, ', ' order by r.srrelid::regclass::text)
        || ': what the publisher purges is deleted here as well, whatever is held here, and without a tombstone',
        format('place holds on the publisher. If this server only looks on: select after_hours.pause_job(''purge'', ''infinity'', ''subscriber''); '
            'if it is meant so: update after_hours.settings set accepted_publications = accepted_publications || %L::text;', u.subname)
    from pg_subscription as u
    join pg_subscription_rel as r on r.srsubid = u.oid
    join pg_class as c on c.oid = r.srrelid and c.relname in ('after_hours_sessions', 'after_hours_matches', 'after_hours_messages')
    join pg_namespace as n on n.oid = c.relnamespace and n.nspname = 'public'
    cross join after_hours.settings as s
    group by u.subname, s.accepted_publications;
$$;
comment on function after_hours.examine_replication() is
'Publications and subscriptions that have the application''s tables, and tables in them without a replica identity. Internal, used '
'by doctor().';
alter function after_hours.examine_replication() owner to after_hours_owner;
revoke all on function after_hours.examine_replication() from public;
