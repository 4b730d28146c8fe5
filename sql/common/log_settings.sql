create or replace function after_hours.log_settings()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: write a row to settings_log for each setting that an UPDATE changed.
    -- Returns: the new row, unchanged.
    -- Locks:   none of its own.
    -- Access:  internal.
    insert into after_hours.settings_log (changed_by, setting, old_value, new_value)
    select session_user, o.key, o.value, n.value
    from jsonb_each_text(to_jsonb(old)) as o
    join jsonb_each_text(to_jsonb(new)) as n on n.key = o.key
    where n.value is distinct from o.value;
    return new;
end
$$;
comment on function after_hours.log_settings() is
'Trigger of after_hours.settings: records in settings_log who changed a setting, with its old and its new value.';
alter function after_hours.log_settings() owner to after_hours_owner;
revoke all on function after_hours.log_settings() from public;

create or replace trigger log_settings
after update on after_hours.settings
for each row execute function after_hours.log_settings();
