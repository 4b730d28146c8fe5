create or replace function after_hours.iso_utc(p_instant timestamptz)
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: format an instant as the protocol does: ISO 8601, UTC, milliseconds, "Z".
    -- Returns: e.g. 2026-11-24T03:00:00.000Z; null for null. Milliseconds are truncated, not rounded.
    -- Locks:   none.
    -- Access:  after_hours_app.
    select to_char(date_trunc('milliseconds', p_instant at time zone 'UTC'), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
$$;
comment on function after_hours.iso_utc(timestamptz) is
'An instant as ISO 8601 in UTC with milliseconds, whatever the session''s TimeZone.';
alter function after_hours.iso_utc(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.iso_utc(timestamptz) from public;
grant execute on function after_hours.iso_utc(timestamptz) to after_hours_app; -- save_match() runs as its caller
