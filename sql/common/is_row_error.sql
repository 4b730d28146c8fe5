create or replace function after_hours.is_row_error(p_sqlstate text)
returns boolean
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: distinguish errors that one row can cause (a value, a key, a trigger) from errors that every row would
    --          cause: what the server can't do (0A), read-only transaction (25), deadlock (40), missing privilege or object (42),
    --          resources (53), a state of the table (55: no replica identity, a lock that is not had; who locks rows skips locked
    --          ones), operator intervention (57), system (58, XX).
    -- Returns: true if the row may be set aside; false if the error must reach the caller.
    -- Locks:   none.
    -- Access:  internal.
    select p_sqlstate !~ '^(0A|25|40|42|53|55|57|58|XX)'
$$;
comment on function after_hours.is_row_error(text) is
'True if a single row can cause this SQLSTATE, so that the row is set aside; false for errors of the installation or the '
'server, which end the run.';
alter function after_hours.is_row_error(text) owner to after_hours_owner;
revoke all on function after_hours.is_row_error(text) from public;
