-- save_match and visible_messages, from the application's seat.
begin;
set local search_path = tap, public;
select plan(12);

insert into public.after_hours_matches (id, user_a, user_b, expires_at, converted_to_match_id)
values
('33333333-0000-4000-8000-000000000001', gen_random_uuid(), gen_random_uuid(), now() + interval '1 hour', null),
('33333333-0000-4000-8000-000000000002', gen_random_uuid(), gen_random_uuid(), now() - interval '1 second', null),
('33333333-0000-4000-8000-000000000003', gen_random_uuid(), gen_random_uuid(), now() - interval '40 days', gen_random_uuid());
insert into public.after_hours_messages (match_id, sender_id, body)
select m.id, m.user_a, 'hello' from public.after_hours_matches as m;

set local role after_hours_app;
select results_eq(
    $$select match_id from after_hours.visible_messages order by 1$$,
    $$values ('33333333-0000-4000-8000-000000000001'::uuid), ('33333333-0000-4000-8000-000000000003'::uuid)$$,
    'running and saved ones are seen; an expired one is hidden at once'
);
select is(
    (select converted_to_match_id from after_hours.save_match(
        '33333333-0000-4000-8000-000000000002', '44444444-0000-4000-8000-000000000002')),
    '44444444-0000-4000-8000-000000000002'::uuid, 'an expired match can still be saved'
);
select is((select count(*) from after_hours.visible_messages), 3::bigint, 'and is seen again');
select lives_ok(
    $$select after_hours.save_match('33333333-0000-4000-8000-000000000002', '44444444-0000-4000-8000-000000000002')$$,
    'saving it again as the same changes nothing'
);
select throws_ok(
    $$select after_hours.save_match('33333333-0000-4000-8000-000000000002', gen_random_uuid())$$, 'AH005', null, 'but not as another'
);
select throws_ok($$select after_hours.save_match(gen_random_uuid(), gen_random_uuid())$$, 'AH003', null, 'unknown');
select throws_ok(
    $$select after_hours.save_match('33333333-0000-4000-8000-000000000001', null)$$, 'AH005', null, 'saved as something'
);

reset role;
insert into after_hours.purge_runs (trigger, status, lease_until, run_by, backend_pid, retention, cutoff, batch_size, system_identifier, database_name)
values ('manual', 'succeeded', now(), 'test', 1, '30 days', now(), 1, 1, 'test');
insert into after_hours.purge_batches (seq, run_id, batch, matches, messages, committed_at, prev_hash, hash, digests)
select 1, max(id), 1, 1, 4, now(), sha256(''), sha256('x'), '' from after_hours.purge_runs;
insert into after_hours.purged_matches (match_id, seq, expired_at, messages)
values ('33333333-0000-4000-8000-000000000009', 1, now() - interval '31 days', 4);
set local role after_hours_app;
select throws_ok(
    $$select after_hours.save_match('33333333-0000-4000-8000-000000000009', gen_random_uuid())$$, 'AH004', null,
    'one that was purged: said as such'
);
select is(after_hours.purged_at('33333333-0000-4000-8000-000000000009'), now(), 'and when');
select is(after_hours.purged_at('33333333-0000-4000-8000-000000000001'), null, 'null for one that was not');
select throws_ok($$select * from after_hours.purged_matches$$, '42501', null, 'tombstones are not the application''s');
select throws_ok($$delete from public.after_hours_messages$$, '42501', null, 'the application deletes nothing');

select * from finish();
rollback;
