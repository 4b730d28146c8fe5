-- Puts back the routines that setup.sql made stoppable, and takes schema test away.
do $$
declare
    v_definition text;
begin
    for v_definition in select o.definition from test.original as o loop
        execute v_definition;
    end loop;
end
$$;
drop schema test cascade;
alter table public.after_hours_matches reset (autovacuum_enabled);
alter table public.after_hours_messages reset (autovacuum_enabled, toast.autovacuum_enabled);
alter table after_hours.holds reset (autovacuum_enabled);
