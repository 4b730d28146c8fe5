create or replace function after_hours.arm(p_reason text)
returns after_hours.brake_releases
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_release after_hours.brake_releases;
    v_identity record;
begin
    -- Purpose: release the brake: runs delete what is overdue until one of them succeeds, for a day at most. Also confirms
    --          that this database on this server is the one at work: a copy announces, purges and pushes nothing before. Recorded permanently, with who and why.
    -- Returns: the release.
    -- Locks:   none beyond its own row; reads the greatest id of each table.
    -- Access:  after_hours_dba.
    if coalesce(btrim(p_reason), '') = '' then
        raise exception using
            errcode = 'AH017',
            message = 'releasing the brake needs a reason, which is stored with it',
            hint = 'select after_hours.arm(''ticket 4711: backlog of the adopted tables, checked with the preview'');';
    end if;
    -- A logical move (a dump of tables, a subscription) may not have carried the sequences: no id is issued twice.
    for v_identity in
        select
            case a.attrelid -- ids that were issued and whose rows are gone
                when 'after_hours.holds'::regclass then '(select id from after_hours.holds union all select id from after_hours.hold_log) as h'
                when 'after_hours.events'::regclass then '(select id from after_hours.events union all select id from after_hours.event_floor) as e'
                else a.attrelid::regclass::text
            end as rows,
            a.attname, pg_get_serial_sequence(a.attrelid::regclass::text, a.attname) as seq
        from pg_attribute as a
        join pg_class as c on c.oid = a.attrelid and c.relnamespace = 'after_hours'::regnamespace
        where a.attidentity <> '' and not a.attisdropped
    loop
        execute format(
            'select setval(%L, m.id) from (select max(%I) as id from %s) as m, %s as s where m.id > s.last_value or m.id = s.last_value and not s.is_called',
            v_identity.seq, v_identity.attname, v_identity.rows, v_identity.seq
        );
    end loop;
    insert into after_hours.brake_releases (released_by, reason, system_identifier, database_name, retention)
    select session_user, p_reason, i.system_identifier, i.database_name, s.retention
    from after_hours.database_identity() as i
    cross join after_hours.settings as s
    returning * into v_release;
    return v_release;
end
$$;
comment on function after_hours.arm(text) is
'Releases the purge''s brake for this database until a run succeeds, for a day at most, and a copy, which before announces, '
'purges and pushes nothing; records who and why. Check first: select * from after_hours.purge_preview(). Error AH017.';
alter function after_hours.arm(text) owner to after_hours_owner;
revoke all on function after_hours.arm(text) from public;
grant execute on function after_hours.arm(text) to after_hours_dba;
