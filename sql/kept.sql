-- A second life: what uninstall.sql has kept in schema after_hours_kept comes back, and the chain of evidence goes on.
-- Rows are copied by the names of their columns, as a later version may have others; then the schema is dropped.
do $$
declare
    v_table text;
    v_columns text;
    v_serial text;
    v_bad text;
begin
    if to_regnamespace('after_hours_kept') is null then
        return;
    end if;
    if to_regclass('after_hours_kept.settings') is not null then
        -- what fell due while nothing announced is not announced; how jobs run was decided by this installation
        update after_hours_kept.settings set announce_since = clock_timestamp();
        alter table after_hours_kept.settings drop column if exists scheduler;
    end if;
    -- what can't be held any more goes to the log
    if to_regclass('after_hours_kept.holds') is not null and to_regclass('after_hours_kept.hold_log') is not null then
        insert into after_hours_kept.hold_log
            (id, match_id, user_id, kind, reason, keep_until, placed_by, placed_at, released_by, released_at, release_reason)
        select h.id, h.match_id, h.user_id, h.kind, h.reason, h.keep_until, h.placed_by, h.placed_at, session_user, clock_timestamp(),
            'the match was deleted while After Hours was not installed'
        from after_hours_kept.holds as h
        where h.match_id is not null and not exists (select from public.after_hours_matches as m where m.id = h.match_id);
        delete from after_hours_kept.holds as h
        where h.match_id is not null and not exists (select from public.after_hours_matches as m where m.id = h.match_id);
    end if;
    alter table after_hours.settings disable trigger log_settings; -- these are no changes of policy
    for v_table in
        select c.relname
        from pg_class as c
        where c.relnamespace = 'after_hours_kept'::regnamespace and c.relkind = 'r'
            and to_regclass('after_hours.' || c.relname) is not null
        order by c.relname <> 'purge_runs', c.relname -- which purge_batches references
    loop
        select string_agg(quote_ident(k.attname), ', '), min(k.attname) filter (where k.attidentity <> '')
        into v_columns, v_serial
        from pg_attribute as k
        join pg_attribute as n on n.attname = k.attname and n.attnum > 0 and not n.attisdropped
        where k.attrelid = ('after_hours_kept.' || v_table)::regclass and n.attrelid = ('after_hours.' || v_table)::regclass
            and k.attnum > 0 and not k.attisdropped;
        if exists (
            select from pg_attribute as n where n.attrelid = ('after_hours.' || v_table)::regclass and n.attname = 'singleton'
        ) then
            execute format('update after_hours.%1$I set (%2$s) = (select %2$s from after_hours_kept.%1$I)', v_table, v_columns);
        else
            execute format('insert into after_hours.%1$I (%2$s) overriding system value select %2$s from after_hours_kept.%1$I',
                v_table, v_columns);
        end if;
        if v_serial is not null then
            execute format('select setval(%L, o.last_value, o.is_called) from %s as o',
                pg_get_serial_sequence('after_hours.' || v_table, v_serial),
                pg_get_serial_sequence('after_hours_kept.' || v_table, v_serial));
        end if;
    end loop;
    alter table after_hours.settings enable trigger log_settings;
    drop schema after_hours_kept cascade;
    raise warning 'holds, blocks, settings, runs and evidence are back from schema after_hours_kept';
    select format('run %s, batch %s: %s', v.run_id, v.batch, v.detail)
    into v_bad
    from after_hours.verify_evidence() as v
    where not v.ok
    limit 1;
    if v_bad is not null then
        insert into after_hours.pauses (job, until, reason, paused_by)
        values ('purge', 'infinity', 'the evidence that was kept does not verify: ' || v_bad, session_user)
        on conflict (job) do update set until = excluded.until, reason = excluded.reason, paused_by = excluded.paused_by;
        raise warning 'the purge is paused: the evidence that was kept does not verify: %', v_bad
            using hint = 'select * from after_hours.verify_evidence() where not ok; then select after_hours.resume_job(''purge'');';
    end if;
end
$$;
