create or replace function after_hours._purge_preview()
returns table (section text, item text, matches bigint, messages bigint, bytes bigint, is_estimate boolean, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set jit = off
as $$
declare
    c_exact constant bigint := 20000;
    v_cutoff timestamptz := after_hours.purge_cutoff();
    v_due bigint;
    v_step bigint;
    v_messages numeric;
    v_bytes numeric;
    v_sampled bigint;
    v_matches_size real;
    v_brake record;
    v_settings after_hours.settings;
begin
    -- Purpose: what a purge started now would delete and what it would leave, by its own predicate
    --          (purgeable_matches); deletes nothing.
    -- Returns: sections brake, due, day, excluded, tie. Above 20,000 due matches messages and bytes are estimated from
    --          a sample of about 1,000 of them, and is_estimate is true.
    -- Locks:   none: the caller has locked what is read.
    -- Access:  internal.
    perform after_hours.assert_access('public.after_hours_matches', 'public.after_hours_messages');
    select s.* into v_settings from after_hours.settings as s;
    v_brake := after_hours.brake();
    v_due := v_brake.due_matches;
    v_step := case when v_due > c_exact then v_due / 1000 else 1 end;

    section := 'brake';
    item := case when v_brake.is_on then 'ON: a run would delete nothing' when v_brake.is_released then 'released' else 'off' end;
    is_estimate := false;
    detail := concat_ws('. ', v_brake.reason, v_brake.hint);
    return next;

    section := 'due';
    item := format('expired before %s', after_hours.iso_utc(v_cutoff));
    matches := v_due;
    select count(*), coalesce(sum(g.messages), 0), coalesce(sum(g.bytes), 0)
    into v_sampled, v_messages, v_bytes
    from after_hours.purgeable_matches as p
    cross join lateral (
        select count(*) as messages, sum(pg_column_size(g.*) + 4) as bytes
        from public.after_hours_messages as g
        where g.match_id = p.id
    ) as g
    where p.expires_at < v_cutoff and (v_step = 1 or abs(uuid_hash(p.id)::bigint) % v_step = 0);
    is_estimate := v_step > 1;
    if is_estimate then
        v_messages := v_messages / greatest(v_sampled, 1);
        v_bytes := v_bytes / greatest(v_sampled, 1);
        messages := round(v_messages * v_due);
        bytes := round(v_bytes * v_due);
    else
        messages := v_messages;
        bytes := v_bytes;
    end if;
    detail := format('retention %s; bytes of message rows; new rows reuse the space (VACUUM FULL returns it to the system)',
        v_settings.retention);
    return next;

    is_estimate := false;
    messages := null;
    bytes := null;
    item := 'within the next 24 hours';
    matches := (
        select count(*) from after_hours.purgeable_matches as p where p.expires_at >= v_cutoff
            and p.expires_at < v_cutoff + interval '24 hours'
    );
    detail := 'not yet due';
    return next;

    return query
    select
        'day', to_char(d.day, 'YYYY-MM-DD'), d.matches,
        case when v_step = 1 then d.messages else round(d.matches * v_messages)::bigint end,
        case when v_step = 1 then d.bytes else round(d.matches * v_bytes)::bigint end,
        v_step > 1, repeat('#', (40 * d.matches / max(d.matches) over ())::integer)
    from (
        select
            (p.expires_at at time zone 'UTC')::date as day, count(*) as matches,
            sum(g.messages)::bigint as messages, sum(g.bytes)::bigint as bytes
        from after_hours.purgeable_matches as p
        left join lateral (
            select count(*) as messages, coalesce(sum(pg_column_size(g.*) + 4), 0) as bytes
            from public.after_hours_messages as g
            where g.match_id = p.id and v_step = 1
        ) as g on v_step = 1
        where p.expires_at < v_cutoff
        group by 1
    ) as d
    order by d.day;

    section := 'excluded';
    bytes := null;
    v_matches_size := (select c.reltuples from pg_class as c where c.oid = 'public.after_hours_matches'::regclass);
    item := 'saved';
    detail := 'converted_to_match_id is set';
    if v_matches_size > 200000 then
        is_estimate := true;
        matches := greatest(v_matches_size - (
            select c.reltuples from pg_class as c where c.oid = to_regclass('public.after_hours_matches_overdue_idx')
        ), 0)::bigint;
        detail := detail || '; all of them, whenever they expired, as of the last ANALYZE';
    else
        is_estimate := false;
        matches := (
            select count(*) from public.after_hours_matches as m where m.converted_to_match_id is not null and m.expires_at < v_cutoff
        );
    end if;
    return next;
    is_estimate := false;
    item := 'held';
    detail := 'a hold on the match or on one of its users: select * from after_hours.not_purged where reason = ''held'';';
    matches := (
        select count(*) from public.after_hours_matches as m where m.converted_to_match_id is null and m.expires_at < v_cutoff
            and (m.created_at is null or m.created_at < v_cutoff)
    ) - v_due;
    return next;
    item := 'young';
    detail := 'expired before the cutoff, but was made after it: stays until its creation is past the retention too';
    matches := (
        select count(*) from public.after_hours_matches as m
        where m.converted_to_match_id is null and m.expires_at < v_cutoff and m.created_at >= v_cutoff
    );
    return next;
    item := 'set aside';
    detail := 'raised an error in an earlier run; counted above as due, tried again by each run: select * from after_hours.not_purged;';
    matches := (
        select count(*)
        from after_hours.purge_failures as f
        join after_hours.purgeable_matches as p on p.id = f.match_id
        where p.expires_at < v_cutoff
    );
    return next;
    item := 'was not due';
    detail := 'counted above as due, although it was past its retention when the last run succeeded: was un-saved, '
        'released or moved back since. select * from after_hours.explain_match(id);';
    matches := (
        select count(*)
        from after_hours.purgeable_matches as p
        where not exists (select from after_hours.purge_failures as f where f.match_id = p.id)
            and p.expires_at < (
                select max(r.cutoff) from after_hours.purge_runs as r where r.status = 'succeeded' and r.match_id is null
            ) and p.expires_at < v_cutoff
    );
    return next;

    return query
    select
        'tie', concat_ws(' ', t.kind, t.name, 'on', t.on_table, case when t.of_table is not null then '← ' || t.of_table end),
        null::bigint,
        case when t.is_counted then after_hours.count_dependent_rows(t.constraint_oid, null) end,
        null::bigint,
        false,
        concat_ws(
            ' ', case when t.is_red then 'RED.' end, t.effect || '.', t.detail,
            case
                when t.is_counted then 'Rows there that reference due matches: see the column messages.'
                when t.constraint_oid is not null and not t.is_red and t.effect not like 'messages%'
                    then format('To have them counted: grant select on %s to after_hours_owner;', t.of_table)
            end
        )
    from after_hours.list_dependencies() as t;
end
$$;
comment on function after_hours._purge_preview() is
'The answer of purge_preview() in one snapshot. Internal, called by it alone: it locks the tables first.';
alter function after_hours._purge_preview() owner to after_hours_owner;
revoke all on function after_hours._purge_preview() from public;
