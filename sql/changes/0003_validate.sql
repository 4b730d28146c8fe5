-- 0003: validates the foreign key of messages to matches, which 0001 added without a scan. Write-once.
-- SHARE UPDATE EXCLUSIVE on messages: readers and writers go on. An adopted table may hold orphans: then the key
-- stays NOT VALID (it guards every new row all the same), and the notice says how to find them.
set local search_path = pg_catalog, pg_temp; -- nothing that others made in public is found
do $$
declare
    v_constraint name;
begin
    for v_constraint in
        select conname
        from pg_catalog.pg_constraint
        where conrelid = 'public.after_hours_messages'::regclass and contype = 'f'
            and confrelid = 'public.after_hours_matches'::regclass and not convalidated
    loop
        begin
            execute format('alter table public.after_hours_messages validate constraint %I', v_constraint);
        exception when foreign_key_violation then
            raise notice 'constraint % stays NOT VALID: messages without a match exist. List them with: '
                'select g.* from public.after_hours_messages as g '
                'where not exists (select from public.after_hours_matches as m where m.id = g.match_id);', v_constraint;
        end;
    end loop;
end
$$;
