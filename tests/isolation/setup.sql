-- What every spec stands on: schema test, with a purge whose batches can be stopped before each of their steps.
-- Run once by the runner, as a superuser, into a database that is thrown away afterwards or restored by teardown.sql.
drop schema if exists test cascade;
create schema test;
grant usage on schema test to public;

-- an autovacuum that cuts off empty pages may hold the table for longer than a batch waits: right, but not the same each time
alter table public.after_hours_matches set (autovacuum_enabled = off);
alter table public.after_hours_messages set (autovacuum_enabled = off, toast.autovacuum_enabled = off);
alter table after_hours.holds set (autovacuum_enabled = off);

-- a row of the application that names a match, without cascade: a report
create table test.reports (
    id bigint generated always as identity primary key,
    match_id uuid not null references public.after_hours_matches (id)
);
create index on test.reports (match_id);
grant insert, select, delete on test.reports to after_hours_app;

create table test.seed_matches (like public.after_hours_matches);
create table test.seed_messages (match_id uuid, n integer, body text);
insert into test.seed_matches (id, user_a, user_b, created_at, expires_at, converted_to_match_id)
select
    format('00000000-0000-4000-8000-%s', lpad(t.n::text, 12, '0'))::uuid,
    format('aaaaaaaa-0000-4000-8000-%s', lpad(t.n::text, 12, '0'))::uuid,
    format('bbbbbbbb-0000-4000-8000-%s', lpad(t.n::text, 12, '0'))::uuid,
    now() - interval '90 days', now() - t.age, t.saved
from (
    values
    (1, interval '40 days', null::uuid), -- due: what the other session lays hands on
    (2, interval '39 days', null), -- due
    (3, interval '38 days', gen_random_uuid()), -- saved
    (4, interval '37 days', null), -- held
    (5, interval '36 days', null), -- held by its user
    (6, interval '35 days', null), -- reported
    (7, interval '29 days', null) -- not yet
) as t (n, age, saved);
insert into test.seed_messages
select m.id, g.n, 'message ' || g.n from test.seed_matches as m cross join generate_series(1, 3) as g (n);

create function test.match(p_n integer) returns uuid language sql immutable as
$$ select format('00000000-0000-4000-8000-%s', lpad(p_n::text, 12, '0'))::uuid $$;
create function test.user_a(p_n integer) returns uuid language sql immutable as
$$ select format('aaaaaaaa-0000-4000-8000-%s', lpad(p_n::text, 12, '0'))::uuid $$;

create function test.reset() returns void language plpgsql as $$
begin
    truncate public.after_hours_matches, public.after_hours_messages, test.reports, after_hours.holds, after_hours.hold_log,
        after_hours.purge_runs, after_hours.purge_batches, after_hours.purged_matches, after_hours.purge_failures,
        after_hours.brake_releases, after_hours.pauses, after_hours.settings_log restart identity;
    update after_hours.evidence_chain set head_seq = 0, anchor_seq = 0,
        head_hash = decode(repeat('00', 32), 'hex'), anchor_hash = decode(repeat('00', 32), 'hex');
    insert into public.after_hours_matches select * from test.seed_matches;
    insert into public.after_hours_messages (match_id, sender_id, body)
    select s.match_id, s.match_id, s.body from test.seed_messages as s order by s.match_id, s.n;
    insert into after_hours.holds (match_id, kind, reason, placed_by) values (test.match(4), 'report', 'test', 'test');
    insert into after_hours.holds (user_id, kind, reason, placed_by) values (test.user_a(5), 'legal', 'test', 'test');
    insert into test.reports (match_id) values (test.match(6));
end
$$;

-- the purge stops before a step while somebody holds that step's advisory lock
create function test.pause(p_step text) returns void language plpgsql security definer set lock_timeout = 0 as $$
begin
    perform pg_advisory_lock_shared(4711, hashtext(p_step));
    perform pg_advisory_unlock_shared(4711, hashtext(p_step));
end
$$;
create table test.original (definition text);
do $$
declare
    v_definition text;
begin
    foreach v_definition in array array[
        pg_get_functiondef('after_hours.purge_batch(bigint)'::regprocedure),
        pg_get_functiondef('after_hours.delete_rows(uuid[],bigint)'::regprocedure)
    ] loop
        insert into test.original values (v_definition);
        execute regexp_replace(v_definition, '-- step (\w+):[^\n]*\n', E'perform test.pause(''\\1'');\n', 'g');
    end loop;
end
$$;

-- the plain rule, written once more and independently: what has to be there still, and what must not
create function test.state() returns text language sql as $$
    with seen as (
        select
            right(s.id::text, 2)::integer as n, s.expires_at, s.converted_to_match_id as was_saved,
            m.id is not null as is_there, m.converted_to_match_id is not null as is_saved, count(g.id) as messages,
            exists (select from after_hours.holds h where h.match_id = s.id or h.user_id in (s.user_a, s.user_b)) as is_held,
            (select t.messages from after_hours.purged_matches t where t.match_id = s.id) as tombstone,
            exists (
                select
                from after_hours.purged_matches t
                join after_hours.purge_batches b on b.seq = t.seq
                join after_hours.holds h on h.placed_at < b.committed_at
                where t.match_id = s.id and (h.match_id = s.id or h.user_id in (s.user_a, s.user_b))
            ) as was_held
        from test.seed_matches as s
        left join public.after_hours_matches as m on m.id = s.id
        left join public.after_hours_messages as g on g.match_id = s.id
        group by s.id, s.user_a, s.user_b, s.expires_at, s.converted_to_match_id, m.id, m.converted_to_match_id
    )

    select string_agg(
        concat_ws(
            ' ', s.n || ':', s.messages || case when s.is_there then ' there' else ' gone' end,
            case when s.is_saved then 'saved' end, case when s.is_held then 'held' end, 'tombstone ' || s.tombstone,
            case
                when not s.is_there and s.was_held then 'HELD AND GONE'
                when not s.is_there and s.was_saved is not null and s.tombstone is null then 'SAVED AND GONE'
                when not s.is_there and s.expires_at > now() - interval '30 days' then 'YOUNG AND GONE'
                when not s.is_there and s.messages > 0 then 'ORPHANS'
                when s.is_there and s.messages < 3 then 'HALF GONE'
                when s.is_there and s.tombstone is not null then 'TOMBSTONE, BUT THERE'
            end
        ),
        '; ' order by s.n
    )
    from seen as s
$$;
-- a run, opened by the calling session: batches of all the seven at once
create function test.open_run() returns bigint language sql as
$$ select (after_hours.open_purge_run('manual', null, null)).id $$;
grant execute on all functions in schema test to public;
grant select on all tables in schema test to public;
