create or replace function after_hours.delete_matches(p_match_ids uuid[], p_messages bigint[], p_give_up_at timestamptz)
returns table (match_id uuid, messages bigint, outcome text, sqlstate text, message text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_ids uuid[] := p_match_ids;
    v_counts bigint[] := p_messages;
    v_is_counted boolean := p_messages is not null;
    v_deleted record;
    v_count bigint;
    v_state text;
    v_message text;
    v_detail text;
    v_culprit uuid;
    v_half integer;
begin
    -- Purpose: delete these matches with their messages (counted before, or p_messages null). If one raises an error, all
    --          deletes of this call are undone and repeated without the match that caused it: the one that the error
    --          names, otherwise found by halving the batch.
    -- Returns: a row per id: erased (with its message count), failed (with the error), busy (locked, or time is up).
    -- Locks:   expects the matches locked FOR UPDATE; takes the message rows.
    -- Access:  internal.
    while cardinality(v_ids) > 0 loop
        begin
            select d.messages, d.matches
            into v_deleted
            from after_hours.delete_rows(
                v_ids, case when v_is_counted then (select coalesce(sum(c.n), 0)::bigint from unnest(v_counts) as c (n)) end
            ) as d;
            if not v_is_counted then
                v_counts := v_deleted.messages;
            end if;
            v_count := v_deleted.matches;
            if v_count <> cardinality(v_ids) then
                raise exception using
                    errcode = 'AH014',
                    message = format('a trigger kept %s of %s matches from being deleted', cardinality(v_ids) - v_count,
                        cardinality(v_ids)),
                    hint = 'select * from after_hours.list_dependencies() where kind = ''trigger'';';
            end if;
            -- an enforced foreign key has just proved that no message is left; without one, check
            if not after_hours.has_enforced_key() then
                select g.match_id into v_culprit
                from public.after_hours_messages as g
                where g.match_id = any(v_ids)
                limit 1;
                if found then
                    raise exception using
                        errcode = 'AH014',
                        message = 'a trigger kept messages from being deleted',
                        detail = format('Messages of match %s are left.', v_culprit),
                        hint = 'select * from after_hours.list_dependencies() where kind = ''trigger'';';
                end if;
            end if;
            return query
            select i.id, i.n, 'erased'::text, null::text, null::text from unnest(v_ids, v_counts) as i (id, n);
            return;
        exception
            when lock_not_available or deadlock_detected or serialization_failure then
                -- other transactions use these rows: no error for the caller, they are retried in a smaller batch
                return query select i.id, 0::bigint, 'busy'::text, null::text, null::text from unnest(v_ids) as i (id);
                return;
            when others then
                get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_detail = pg_exception_detail;
                if not after_hours.is_row_error(v_state) then
                    raise; -- disk full, missing privilege and the like: the run fails, no match is set aside
                end if;
        end;
        if v_is_counted then
            v_is_counted := false; -- from here on count the rows actually deleted: slower, but always right
            continue when v_state = 'AH014';
        end if;
        v_culprit := (
            select i.id
            from unnest(v_ids) as i (id)
            where v_detail like '%' || i.id::text || '%' or v_message like '%' || i.id::text || '%'
            limit 1
        );
        if cardinality(v_ids) = 1 then
            v_culprit := v_ids[1];
        end if;
        if v_culprit is not null then
            return query select v_culprit, 0::bigint, 'failed'::text, v_state, concat_ws(' ', v_message || '.', nullif(v_detail, ''));
            v_ids := array_remove(v_ids, v_culprit);
            continue when clock_timestamp() < p_give_up_at;
            return query select i.id, 0::bigint, 'busy'::text, null::text, null::text from unnest(v_ids) as i (id);
            return;
        end if;
        if clock_timestamp() >= p_give_up_at then
            return query select i.id, 0::bigint, 'busy'::text, null::text, null::text from unnest(v_ids) as i (id);
            return;
        end if;
        v_half := cardinality(v_ids) / 2;
        return query select e.* from after_hours.delete_matches(v_ids[:v_half], null, p_give_up_at) as e;
        return query select e.* from after_hours.delete_matches(v_ids[v_half + 1:], null, p_give_up_at) as e;
        return;
    end loop;
end
$$;
comment on function after_hours.delete_matches(uuid[], bigint[], timestamptz) is
'Inner part of purge_batch(): deletes locked matches with their messages, and reports those that raise an error. Not '
'for direct calls: the guards are in purge_batch().';
alter function after_hours.delete_matches(uuid[], bigint[], timestamptz) owner to after_hours_owner;
revoke all on function after_hours.delete_matches(uuid[], bigint[], timestamptz) from public;
