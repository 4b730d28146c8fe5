-- Holds, brake, evidence and the purge's guards, from the seats of moderator, DBA and application.
begin;
set local search_path = tap, public;
select plan(21);

insert into public.after_hours_matches (id, user_a, user_b, created_at, expires_at, converted_to_match_id)
values
('55555555-0000-4000-8000-000000000001', '66666666-0000-4000-8000-000000000001', gen_random_uuid(), now() - interval '90 days', now() - interval '40 days', null),
('55555555-0000-4000-8000-000000000002', gen_random_uuid(), gen_random_uuid(), now() - interval '90 days', now() - interval '40 days', null),
('55555555-0000-4000-8000-000000000003', gen_random_uuid(), gen_random_uuid(), now() - interval '90 days', now() - interval '1 day', null);
insert into public.after_hours_messages (match_id, sender_id, body)
select m.id, m.user_a, 'hello' from public.after_hours_matches as m;

select has_index('public', 'after_hours_matches', 'after_hours_matches_overdue_idx', 'the purge has its index');
select is(
    (select after_hours.purge_cutoff() between now() - interval '30 days 1 hour' and now() - interval '29 days 23 hours'),
    true, 'the cutoff is thirty days ago'
);
select is(after_hours.latest_slot('2026-11-24 02:59:59Z'), '2026-11-23 03:00Z'::timestamptz, 'before 03:00 UTC: yesterday''s slot');
select is(after_hours.latest_slot('2026-11-24 03:00Z'), '2026-11-24 03:00Z'::timestamptz, 'at 03:00 UTC: today''s');
select is(after_hours.latest_slot('1999-01-01Z'), null, 'before the installation there are no slots');
select is(
    encode(after_hours.evidence_hash(
        decode(repeat('00', 32), 'hex'), 1, 1, 1, '2026-11-24 03:00:00.5Z',
        array['55555555-0000-4000-8000-000000000001'::uuid], array['2026-10-24 02:00Z'::timestamptz], array[7::bigint]
    ), 'hex'),
    encode(sha256(decode(repeat('00', 32), 'hex') || convert_to(
        E'after_hours evidence 1\nbatch 1 run 1.1 at 2026-11-24T03:00:00.500000Z\n'
        || E'55555555-0000-4000-8000-000000000001 2026-10-24T02:00:00.000000Z 7\n', 'UTF8')), 'hex'),
    'the hash is over the documented text'
);

set local role after_hours_moderator;
select is(
    (select kind from after_hours.place_hold('55555555-0000-4000-8000-000000000001', 'report', 'ticket 1')), 'report', 'a match is held'
);
select is(
    (select kind from after_hours.place_user_hold('66666666-0000-4000-8000-000000000001', 'legal', 'case 1', now() + interval '1 day')),
    'legal', 'and a user'
);
select results_eq(
    $$select match_id, is_held from after_hours.retained_messages order by 1$$,
    $$values ('55555555-0000-4000-8000-000000000001'::uuid, true), ('55555555-0000-4000-8000-000000000002', false),
    ('55555555-0000-4000-8000-000000000003', false)$$,
    'moderators see what is retained, and what is held'
);
select throws_ok($$select after_hours.place_hold(gen_random_uuid(), 'report', 'x')$$, 'AH003', null, 'an unknown match');
select throws_ok($$select after_hours.place_user_hold(null, 'report', 'x')$$, 'AH007', null, 'a hold without a user is an error');
select throws_ok($$select after_hours.release_hold(0, 'x')$$, 'AH006', null, 'an unknown hold');
select throws_ok($$select after_hours.arm('x')$$, '42501', null, 'a moderator can''t release the brake');
select throws_ok($$select after_hours.open_purge_run('manual', null, null)$$, '42501', null, 'nor purge');

set local role after_hours_dba;
select is((select count(*) from after_hours.not_purged where reason = 'held'), 1::bigint, 'the DBA sees what is kept');
select is((select is_on from after_hours.brake()), false, 'the brake is off');
select throws_ok($$select * from after_hours.retained_messages$$, '42501', null, 'but not what was written in it');
select throws_ok($$delete from after_hours.purged_matches$$, '42501', null, 'evidence is not for deleting');
select throws_ok($$select after_hours.purge_batch(0)$$, 'AH020', null, 'a batch can''t follow what a transaction has written');
select throws_ok($$call after_hours.purge()$$, 'AH010', null, 'a purge can''t run inside a transaction');

set local role after_hours_app;
select throws_ok($$delete from public.after_hours_messages$$, '42501', null, 'the application deletes no messages');
select * from finish();
rollback;
