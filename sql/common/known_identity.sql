create or replace function after_hours.known_identity(out system_identifier bigint, out database_name name, out marker_oid oid)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: where this schema was last at work: the latest of purge runs, releases by arm() and epochs.
    -- Returns: system identifier of the cluster, name of the database, oid that table epoch_marker had there; nulls if not known.
    --          Compare: database_identity().
    -- Locks:   none; three index probes.
    -- Access:  internal.
    with known as (
        (
            select r.started_at as at, r.system_identifier, r.database_name, null::oid as marker_oid
            from after_hours.purge_runs as r
            where r.status not in ('braked', 'paused') -- these did nothing here
            order by r.started_at desc
            limit 1
        )
        union all
        (
            select b.released_at, b.system_identifier, b.database_name, b.marker_oid
            from after_hours.brake_releases as b
            order by b.released_at desc
            limit 1
        )
        union all
        (
            select e.opened_at, e.system_identifier, null, e.marker_oid
            from after_hours.epochs as e
            order by e.ordinal desc
            limit 1
        )
    )

    select
        (select k.system_identifier from known as k order by k.at desc limit 1),
        (select k.database_name from known as k where k.database_name is not null order by k.at desc limit 1),
        (select k.marker_oid from known as k where k.marker_oid is not null order by k.at desc limit 1);
$$;
comment on function after_hours.known_identity() is
'The cluster and database in which this schema last purged, was released or opened an epoch. Internal, used by is_copy() and brake().';
alter function after_hours.known_identity() owner to after_hours_owner;
revoke all on function after_hours.known_identity() from public;
