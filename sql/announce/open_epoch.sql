create or replace function after_hours.open_epoch()
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_system bigint := (select system_identifier from pg_control_system());
    v_started timestamptz := pg_postmaster_start_time();
    v_name text;
begin
    -- Purpose: the epoch that events of this run of the server belong to; opened when this is its first event.
    --          A crash restart keeps the start time, but empties the UNLOGGED marker table, by which it is recognized.
    -- Returns: the epoch's name. Raises AH044 in a copy of another database.
    -- Locks:   the caller holds after_hours.emitter.
    -- Access:  internal.
    select e.name
    into v_name
    from after_hours.epochs as e
    join after_hours.epoch_marker as m on m.name = e.name
    where e.ordinal = (select max(ordinal) from after_hours.epochs)
        and e.system_identifier = v_system and e.server_started_at = v_started
        and e.marker_oid = 'after_hours.epoch_marker'::regclass;
    if found then
        return v_name;
    end if;
    -- The first event of a run of the server: a copy has no epoch of its own yet.
    if after_hours.is_copy() then
        raise exception using
            errcode = 'AH044',
            message = 'this is a copy of another database: nothing is announced in it',
            detail = 'Its users would be told about sessions that go on in the original.',
            hint = 'If it takes the original''s place: select after_hours.arm(''why'');';
    end if;
    insert into after_hours.epochs (name, last_id, system_identifier, server_started_at)
    select
        substr(md5(gen_random_uuid()::text), 1, 8),
        greatest((select max(id) from after_hours.events), (select id from after_hours.event_floor)),
        v_system,
        v_started
    returning name into v_name;
    delete from after_hours.epoch_marker;
    insert into after_hours.epoch_marker (name) values (v_name);
    return v_name;
end
$$;
comment on function after_hours.open_epoch() is
'Name of the epoch of this run of the server, opened with last_id before the run''s first event. Internal: under the '
'lock on emitter.';
alter function after_hours.open_epoch() owner to after_hours_owner;
revoke all on function after_hours.open_epoch() from public;
