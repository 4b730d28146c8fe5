create or replace function after_hours.keep_floor()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: before events are truncated, note up to which deadlines was announced: nothing of it is announced again.
    -- Returns: null.
    -- Locks:   the row of after_hours.event_floor.
    -- Access:  internal.
    update after_hours.event_floor as f
    set id = greatest(f.id, (select max(e.id) from after_hours.events as e)),
        expired_to = greatest(f.expired_to, least(clock_timestamp(), (
            select max(e.deadline) from after_hours.events as e where e.type = 'after_hours:session_expired'
        ))),
        expiring_to = greatest(f.expiring_to, least(clock_timestamp() + s.warning_lead, (
            select max(e.deadline) from after_hours.events as e where e.type = 'after_hours:session_expiring'
        )))
    from after_hours.settings as s;
    return null;
end
$$;
comment on function after_hours.keep_floor() is
'Trigger of after_hours.events: a TRUNCATE raises the floors, so that nothing that was announced is announced again.';
alter function after_hours.keep_floor() owner to after_hours_owner;
revoke all on function after_hours.keep_floor() from public;

do $$
begin
    if not exists (
        select from pg_catalog.pg_trigger as t where t.tgrelid = 'after_hours.events'::regclass and t.tgname = 'keep_floor'
    ) then
        -- A pass locks emitter, then events: an apply that locked events first would deadlock with it.
        lock table after_hours.emitter in exclusive mode;
        create trigger keep_floor
        before truncate on after_hours.events
        for each statement execute function after_hours.keep_floor();
    end if;
end
$$;
