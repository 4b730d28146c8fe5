create or replace function after_hours.check_indexes()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invalid text;
begin
    -- Purpose: check that our indexes on the application's tables exist and are valid.
    -- Returns: one row.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    check_name := 'indexes';
    select string_agg(w.name, ', ')
    into v_invalid
    from (
        values
        ('after_hours_sessions_deadline_idx'),
        ('after_hours_sessions_user_idx'), ('after_hours_matches_overdue_idx')
    ) as w (name)
    where not exists (
        select
        from pg_class as c
        join pg_index as i on i.indexrelid = c.oid
        where c.relname = w.name and c.relnamespace = 'public'::regnamespace and i.indisvalid
    );
    ok := v_invalid is null;
    detail := coalesce('missing or invalid: ' || v_invalid, 'all indexes exist and are valid');
    next_command := case when not ok then
        format('drop index concurrently if exists public.%s; then run sql/changes/0002_indexes.sql again with psql',
            split_part(v_invalid, ',', 1))
    end;
    if ok and not exists (
        select
        from pg_index as i
        join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] and a.attname = 'match_id'
        where i.indrelid = to_regclass('public.after_hours_messages') and i.indisvalid and i.indpred is null
    ) then
        ok := false;
        detail := 'public.after_hours_messages has no index led by match_id: each deleted match reads the whole table';
        next_command := 'create index concurrently after_hours_messages_match_id_idx on public.after_hours_messages (match_id);';
    end if;
    return next;
end
$$;
comment on function after_hours.check_indexes() is
'Health check: our indexes on the application''s tables. Read it as view after_hours.health.';
alter function after_hours.check_indexes() owner to after_hours_owner;
revoke all on function after_hours.check_indexes() from public;
grant execute on function after_hours.check_indexes() to after_hours_dba;
