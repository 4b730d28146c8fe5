create or replace function after_hours.relay_probe(p_nonce text)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: test of a relay's LISTEN: the nonce comes back to the caller if notifications arrive.
    -- Returns: nothing; the nonce arrives on channel after_hours_probe, cut at 64 characters.
    -- Locks:   the lock of the notification queue, at commit.
    -- Access:  after_hours_relay.
    select pg_notify('after_hours_probe', left(p_nonce, 64));
$$;
comment on function after_hours.relay_probe(text) is
'Sends the nonce on channel after_hours_probe: a relay that does not receive it polls instead.';
alter function after_hours.relay_probe(text) owner to after_hours_owner;
revoke all on function after_hours.relay_probe(text) from public;
grant execute on function after_hours.relay_probe(text) to after_hours_relay;
