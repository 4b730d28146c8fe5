create or replace function after_hours.count_dependent_rows(p_constraint oid, p_match_id uuid, p_limit bigint default 100000)
returns bigint
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_key pg_constraint;
    v_on text;
    v_count bigint;
begin
    -- Purpose: count the rows of an application table that reference, by this foreign key, one match or all due matches.
    -- Returns: the count, at most p_limit.
    -- Locks:   none.
    -- Access:  internal.
    select c.* into strict v_key from pg_constraint as c where c.oid = p_constraint;
    select string_agg(format('x.%I = r.%I', a.attname, f.attname), ' and ')
    into v_on
    from unnest(v_key.conkey, v_key.confkey) as k (attnum, fattnum)
    join pg_attribute as a on a.attrelid = v_key.conrelid and a.attnum = k.attnum
    join pg_attribute as f on f.attrelid = v_key.confrelid and f.attnum = k.fattnum;
    execute format(
        'select count(*) from (select from after_hours.purgeable_matches as p %s join %s as x on %s where %s limit $3) as n',
        case
            when v_key.confrelid = 'public.after_hours_messages'::regclass
                then 'join public.after_hours_messages as r on r.match_id = p.id'
            else 'join public.after_hours_matches as r on r.id = p.id'
        end,
        v_key.conrelid::regclass,
        v_on,
        case when p_match_id is null then 'p.expires_at < $2 and $1 is null' else 'p.id = $1 and $2 is not null' end
    )
    into v_count
    using p_match_id, after_hours.purge_cutoff(), p_limit;
    return v_count;
end
$$;
comment on function after_hours.count_dependent_rows(oid, uuid, bigint) is
'Inner part of purge_preview() and explain_match(): rows of an application table that reference due matches (or one) by '
'a foreign key.';
alter function after_hours.count_dependent_rows(oid, uuid, bigint) owner to after_hours_owner;
revoke all on function after_hours.count_dependent_rows(oid, uuid, bigint) from public;
