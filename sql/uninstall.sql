-- Back to a database without After Hours: jobs, schema and what was added to the application's tables go; roles stay,
-- and no table that holds rows is dropped. Holds, blocks, settings, runs and evidence are kept in schema
-- after_hours_kept, and the next installation goes on with them.
-- Run by alembic downgrade base, or by: psql -v ON_ERROR_STOP=1 --single-transaction -f sql/uninstall.sql
set local search_path = pg_catalog, pg_temp; -- nothing that others made in public is found
set local lock_timeout = '5s';

do $$
declare
    v_table text;
    v_has_rows boolean;
    v_column record;
begin
    if to_regprocedure('after_hours.uninstall_jobs()') is not null then
        raise notice '% jobs unscheduled', after_hours.uninstall_jobs();
    end if;

    -- What is a promise lives on in a schema of its own, and kept.sql of the next installation takes it back.
    if exists (select from after_hours.purge_runs) or exists (select from after_hours.holds) or exists (select from after_hours.hold_log)
        or exists (select from after_hours.user_blocks) or exists (select from after_hours.settings_log)
        or exists (select from after_hours.brake_releases) then
        create schema after_hours_kept authorization after_hours_owner;
        alter domain after_hours.span set schema after_hours_kept; -- columns would go with it
        foreach v_table in array array['holds', 'hold_log', 'user_blocks', 'settings', 'settings_log', 'purge_runs', 'purge_batches',
            'purged_matches', 'evidence_chain', 'brake_releases']
        loop
            execute format('alter table after_hours.%I set schema after_hours_kept', v_table);
        end loop;
        alter table after_hours_kept.holds drop constraint if exists holds_match_id_fkey;
        drop trigger if exists log_settings on after_hours_kept.settings;
        grant usage on schema after_hours_kept to after_hours_dba;
        grant select on all tables in schema after_hours_kept to after_hours_dba;
        raise notice 'holds, blocks, settings, runs and evidence are kept in schema after_hours_kept, for the next installation';
    end if;
    drop schema after_hours cascade;

    -- messages before matches: the foreign key
    foreach v_table in array array['after_hours_messages', 'after_hours_matches', 'after_hours_sessions'] loop
        execute format('select exists (select from public.%I)', v_table) into v_has_rows;
        if v_has_rows then
            raise notice 'public.% holds rows and stays', v_table;
        elsif obj_description(('public.' || v_table)::regclass) like 'After Hours created this table.%' then
            execute format('drop table public.%I', v_table);
            raise notice 'public.% was empty and is dropped', v_table;
            continue;
        end if;
        execute format('revoke all on public.%I from after_hours_owner, after_hours_eraser, after_hours_app', v_table);
        for v_column in
            select a.attname
            from pg_catalog.pg_attribute as a
            where a.attrelid = ('public.' || v_table)::regclass and not a.attisdropped
                and col_description(a.attrelid, a.attnum) like 'After Hours added this column.%'
        loop
            execute format('alter table public.%I drop column %I', v_table, v_column.attname);
            raise notice 'dropped the added column public.%.%', v_table, v_column.attname;
        end loop;
    end loop;
end
$$;
