-- The trigger on events. Here and not beside its function: a pass holds emitter and waits for events; whoever locks events
-- first and emitter later, as this apply would, ends in a deadlock with it.
do $$
begin
    if not exists (
        select from pg_catalog.pg_trigger as t where t.tgrelid = 'after_hours.events'::regclass and t.tgname = 'keep_floor'
    ) then
        lock table after_hours.emitter in exclusive mode;
        create trigger keep_floor
        before truncate on after_hours.events
        for each statement execute function after_hours.keep_floor();
    end if;
end
$$;

-- Earlier versions marked announced sessions in two columns of the application's table. Here the marks are turned into what
-- emit_due() needs, and go, in the transaction in which the routines that read them are replaced. Later applies do nothing.
do $$
declare
    v_column text;
begin
    if to_regclass('public.after_hours_sessions_end_idx') is null then
        return;
    end if;
    lock table after_hours.emitter in exclusive mode;
    -- Marked, but the event was trimmed: the floors keep it from being announced again.
    update after_hours.event_floor as f
    set expired_to = greatest(f.expired_to, (
            select least(s.ended_at, s.expires_at)
            from public.after_hours_sessions as s
            where s.expired_for = least(s.ended_at, s.expires_at) and least(s.ended_at, s.expires_at) <= clock_timestamp()
                and not exists (
                    select
                    from after_hours.events as e
                    where e.type = 'after_hours:session_expired' and e.session_id = s.id and e.deadline = least(s.ended_at, s.expires_at)
                )
            order by least(s.ended_at, s.expires_at) desc
            limit 1
        )),
        expiring_to = greatest(f.expiring_to, (
            select max(s.expires_at)
            from public.after_hours_sessions as s
            cross join after_hours.settings as t
            where s.warned_for = s.expires_at and s.ended_at is null
                and least(s.ended_at, s.expires_at) > clock_timestamp()
                and least(s.ended_at, s.expires_at) <= clock_timestamp() + t.warning_lead
                and not exists (
                    select
                    from after_hours.events as e
                    where e.type = 'after_hours:session_expiring' and e.session_id = s.id and e.deadline = s.expires_at
                )
        ));
    -- Not marked, and where no sweep will look: announced one by one, whatever the floors say.
    insert into after_hours.set_aside (session_id, type, deadline, sqlstate, message, retry_at)
    select s.id, 'after_hours:session_expired', least(s.ended_at, s.expires_at), '00000', 'due since before the upgrade', clock_timestamp()
    from public.after_hours_sessions as s
    cross join after_hours.settings as t
    cross join after_hours.event_floor as f
    where s.expired_for is distinct from least(s.ended_at, s.expires_at)
        and least(s.ended_at, s.expires_at) > t.announce_since
        and least(s.ended_at, s.expires_at) <= greatest(f.expired_to, clock_timestamp() - t.event_retention)
        and not exists (
            select
            from after_hours.events as e
            where e.type = 'after_hours:session_expired' and e.session_id = s.id and e.deadline = least(s.ended_at, s.expires_at)
        )
    union all
    select s.id, 'after_hours:session_expiring', s.expires_at, '00000', 'due since before the upgrade',
        greatest(clock_timestamp(), s.started_at)
    from public.after_hours_sessions as s
    cross join after_hours.settings as t
    cross join after_hours.event_floor as f
    where s.ended_at is null and s.warned_for is distinct from s.expires_at
        and s.expires_at > greatest(clock_timestamp(), t.announce_since) and s.expires_at <= f.expiring_to
        and not exists (
            select
            from after_hours.events as e
            where e.type = 'after_hours:session_expiring' and e.session_id = s.id and e.deadline = s.expires_at
        )
    on conflict (session_id, type) do nothing;

    drop index public.after_hours_sessions_end_idx;
    drop index if exists public.after_hours_sessions_warning_idx;
    alter table after_hours.events drop constraint if exists events_type_session_id_deadline_key;
    foreach v_column in array array['warned_for', 'expired_for'] loop
        -- a column that the application had before is its own
        if obj_description('public.after_hours_sessions'::regclass) like 'After Hours created this table.%' or exists (
            select
            from pg_catalog.pg_attribute as a
            where a.attrelid = 'public.after_hours_sessions'::regclass and a.attname = v_column
                and col_description(a.attrelid, a.attnum) like 'After Hours added this column.%'
        ) then
            execute format('alter table public.after_hours_sessions drop column if exists %I', v_column);
        end if;
    end loop;
end
$$;
