create or replace function after_hours.next_batch_size(
    p_batch_size integer, p_batch_messages integer, p_picked integer, p_busy integer, p_matches integer, p_messages bigint,
    p_elapsed interval, p_target interval, p_max integer,
    out batch_size integer, out batch_messages integer
)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: how many matches and messages the next batch of a run may take, so that it lasts p_target.
    --          p_batch_size, p_batch_messages: the limits of the batch just done; p_picked: matches locked, p_busy of
    --          them not deleted because of other transactions; p_matches, p_messages: deleted (or walked
    --          through); p_max: most matches allowed.
    -- Returns: batch_size, 1 to p_max: scaled by target / elapsed, at most doubled or quartered; an eighth of what was
    --          picked if rows were busy; as before if the batch was quick because there was little to delete.
    --          batch_messages, 500 to 1,000,000: 1.5 times what fits into the time at the speed of this batch.
    -- Locks:   none.
    -- Access:  internal.
    select
        case
            when p_busy > 0 then greatest(p_picked / 8, 1)
            when p_elapsed <= p_target and p_matches * 2 < p_batch_size and p_messages * 2 < p_batch_messages then p_batch_size
            else least(greatest((p_batch_size * least(greatest(s.ratio, 0.25), 2))::integer, 1), p_max)
        end,
        case
            when p_messages * 4 < p_batch_messages then p_batch_messages
            else least(greatest((1.5 * p_messages * s.ratio)::bigint, 500), 1000000)::integer
        end
    from (select extract(epoch from p_target) / greatest(extract(epoch from p_elapsed), 0.001) as ratio) as s;
$$;
comment on function after_hours.next_batch_size(integer, integer, integer, integer, integer, bigint, interval, interval, integer) is
'Limits of the next purge batch, from size and duration of the one before. Internal, used by purge_batch().';
alter function after_hours.next_batch_size(integer, integer, integer, integer, integer, bigint, interval, interval, integer)
owner to after_hours_owner;
revoke all on function after_hours.next_batch_size(integer, integer, integer, integer, integer, bigint, interval, interval, integer)
from public;
