create or replace function after_hours.blocked_ms(p_until timestamptz)
returns integer
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: how long a blocked client must wait before it reconnects: retryAfterMs of the protocol.
    -- Returns: milliseconds, at most a day (a longer block is reported again then); null when p_until is null or past.
    -- Locks:   none.
    -- Access:  internal.
    select ceil(extract(epoch from least(p_until, statement_timestamp() + interval '1 day') - statement_timestamp()) * 1000)::integer
    where p_until > statement_timestamp();
$$;
comment on function after_hours.blocked_ms(timestamptz) is
'Milliseconds until a block ends, at most a day; null when there is none.';
alter function after_hours.blocked_ms(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.blocked_ms(timestamptz) from public;
