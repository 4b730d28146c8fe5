create or replace function after_hours._explain_match(p_match_id uuid)
returns table (item text, value text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_match public.after_hours_matches;
    v_cutoff timestamptz := after_hours.purge_cutoff();
    v_due_at timestamptz;
    v_failure after_hours.purge_failures;
    v_run after_hours.purge_runs;
    v_is_purgeable boolean;
    v_is_held boolean;
    v_holder text;
    v_row record;
begin
    -- Purpose: explain one match: everything that decides about its purge, and what will happen to it.
    -- Returns: a row per fact, the verdict first; raises AH003 only if nothing is known about it.
    -- Locks:   none: the caller has locked what is read.
    -- Access:  internal.
    perform after_hours.assert_access('public.after_hours_matches', 'public.after_hours_messages');
    select m.* into v_match from public.after_hours_matches as m where m.id = p_match_id;
    if not found then
        if after_hours.purged_at(p_match_id) is not null then
            item := 'verdict';
            value := 'purged';
            return next;
            return query select 'receipt', d.statement from after_hours.deletion_receipt(p_match_id) as d;
        elsif not exists (select from after_hours.hold_log as l where l.match_id = p_match_id) then
            raise exception using
                errcode = 'AH003',
                message = format('nothing is known about match %s', p_match_id),
                detail = 'It never existed, the application deleted it, or its tombstone is past settings.tombstone_retention.',
                hint = 'Check the id; tombstones: select * from after_hours.purged_matches limit 10;';
        else
            item := 'verdict';
            value := 'deleted, but no purge is on record: the application deleted it, or its tombstone was trimmed';
            return next;
        end if;
    else
        select f.* into v_failure from after_hours.purge_failures as f where f.match_id = p_match_id;
        v_is_purgeable := exists (select from after_hours.purgeable_matches as p where p.id = p_match_id);
        v_due_at := (select after_hours.purge_due_at(v_match.expires_at, v_match.created_at, s.retention) from after_hours.settings as s);
        v_is_held := exists (
            select from after_hours.holds as h where h.match_id = p_match_id or h.user_id in (v_match.user_a, v_match.user_b)
        );
        select l.description
        into v_holder
        from after_hours.list_lock_holders((select array[m.xmax] from public.after_hours_matches as m where m.id = p_match_id), '0') as l
        where l.object = 'a row' or l.object ~ ' on (public.after_hours_(matches|messages)|after_hours.holds)$'
        limit 1;
        item := 'verdict';
        value := case
            when v_match.converted_to_match_id is not null then 'stays: saved'
            when v_is_held then 'stays: held'
            when v_match.expires_at >= v_cutoff or v_match.created_at >= v_cutoff
                then format('stays until %s; the first run after that deletes it', after_hours.iso_utc(v_due_at))
            when v_failure.match_id is not null then 'overdue, but the last attempt raised an error; the next run tries again'
            when (after_hours.brake()).is_on then 'overdue; the brake is on, see after_hours.purge_preview()'
            when after_hours.is_paused('purge') then 'overdue; the purge is paused'
            when v_holder is not null then format('overdue, but locked: %s; the next run deletes it when it is free', v_holder)
            else 'overdue: the next run deletes it'
        end;
        return next;
        item := 'expired';
        value := format('%s; past its retention %s', after_hours.iso_utc(v_match.expires_at), after_hours.iso_utc(v_due_at));
        return next;
        item := 'messages';
        value := (select count(*)::text from public.after_hours_messages as g where g.match_id = p_match_id);
        return next;
        if v_match.converted_to_match_id is not null then
            item := 'saved as';
            value := v_match.converted_to_match_id;
            return next;
        end if;
        for v_row in
            select h.* from after_hours.holds as h
            where h.match_id = p_match_id or h.user_id in (v_match.user_a, v_match.user_b)
            order by h.id
        loop
            item := case when v_row.match_id is null then 'user hold' else 'hold' end;
            value := format('%s, %s: %s; placed by %s at %s, %s', v_row.id, v_row.kind, v_row.reason, v_row.placed_by,
                after_hours.iso_utc(v_row.placed_at),
                case when v_row.keep_until is null then 'until released' else 'until ' || after_hours.iso_utc(v_row.keep_until) end);
            return next;
        end loop;
        if v_failure.match_id is not null then
            item := 'set aside';
            value := format('%s (%s); %s attempts since %s', v_failure.message, v_failure.sqlstate, v_failure.attempts,
                after_hours.iso_utc(v_failure.first_at));
            return next;
        end if;
        for v_row in select t.* from after_hours.list_dependencies() as t where t.constraint_oid is not null
            and t.of_table <> 'after_hours_messages' and t.of_table <> 'public.after_hours_messages' loop
            item := 'rows in ' || v_row.of_table;
            value := case
                when v_row.is_counted and v_is_purgeable then format('%s by %s: %s',
                    after_hours.count_dependent_rows(v_row.constraint_oid, p_match_id), v_row.name, v_row.effect)
                else format('not counted, %s: %s', v_row.name, v_row.effect)
            end;
            return next;
        end loop;
        select r.*
        into v_run
        from after_hours.purge_runs as r
        where r.status = 'succeeded' and r.match_id is null and r.cutoff > v_match.expires_at
        order by r.id desc
        limit 1;
        if found and v_is_purgeable and v_match.expires_at < v_cutoff and v_failure.match_id is null then
            item := 'WARNING';
            value := format('run %s succeeded at %s and left nothing overdue, but this match was past its retention then: ',
                    v_run.id, after_hours.iso_utc(v_run.finished_at))
                || case
                    when exists (
                        select from after_hours.hold_log as l
                        where (l.match_id = p_match_id or l.user_id in (v_match.user_a, v_match.user_b))
                            and l.released_at > v_run.started_at
                    ) then 'it was held, and the hold has ended.'
                    else 'it was saved then and has been un-saved, or its expiry was moved back. If that was a mistake: '
                        || format('update public.after_hours_matches set converted_to_match_id = … where id = %L;', p_match_id)
                end;
            return next;
        end if;
    end if;
    for v_row in select l.* from after_hours.hold_log as l where l.match_id = p_match_id order by l.id loop
        item := 'former hold';
        value := format('%s, %s: %s; placed by %s at %s, released by %s at %s: %s', v_row.id, v_row.kind, v_row.reason, v_row.placed_by,
            after_hours.iso_utc(v_row.placed_at), v_row.released_by, after_hours.iso_utc(v_row.released_at), v_row.release_reason);
        return next;
    end loop;
end
$$;
comment on function after_hours._explain_match(uuid) is
'The answer of explain_match() in one snapshot. Internal, called by it alone: it locks the tables first.';
alter function after_hours._explain_match(uuid) owner to after_hours_owner;
revoke all on function after_hours._explain_match(uuid) from public;
