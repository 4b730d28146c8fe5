-- start_session, extend_session, end_session: what the application may do, and the errors otherwise.
begin;
set local search_path = tap, public;
select plan(18);
set local role after_hours_app;

create temporary table started on commit drop as
select s.* from after_hours.start_session('11111111-0000-4000-8000-000000000001', '45 minutes') as s;
select is((select expires_at - started_at from started), interval '45 minutes', 'the length asked for');
select is(
    (select s.expires_at - s.started_at from after_hours.start_session('11111111-0000-4000-8000-000000000002') as s),
    interval '1 hour', 'without a length: settings.session_length'
);
select throws_ok($$select after_hours.start_session(gen_random_uuid(), '-1 minute')$$, 'AH008', null, 'not backwards');
select throws_ok($$select after_hours.start_session(gen_random_uuid(), '0')$$, 'AH008', null, 'not for no time');
select throws_ok($$select after_hours.start_session(gen_random_uuid(), '25 hours')$$, 'AH008', null, 'not beyond a day');
select throws_ok($$select after_hours.start_session(null)$$, '23502', null, 'a session without a user is an error');

select is(
    (select e.expires_at - s.expires_at from started as s, after_hours.extend_session(s.id, '10 minutes') as e),
    interval '10 minutes', 'extended by what was asked'
);
select throws_ok($$select after_hours.extend_session(gen_random_uuid(), '1 minute')$$, 'AH001', null, 'unknown');
select throws_ok(format($$select after_hours.extend_session(%L, '-1 minute')$$, (select id from started)), 'AH008', null, 'not backwards');
select throws_ok(format($$select after_hours.extend_session(%L, null)$$, (select id from started)), 'AH008', null, 'by something');

select is(
    (select e.end_reason from started as s, after_hours.end_session(s.id, 'moderation') as e), 'moderation', 'ended, with its reason'
);
select is(
    (select e.end_reason from started as s, after_hours.end_session(s.id, 'left') as e), 'moderation', 'ending again changes nothing'
);
select throws_ok(format($$select after_hours.extend_session(%L, '1 minute')$$, (select id from started)), 'AH002', null, 'over is over');
select throws_ok($$select after_hours.end_session(gen_random_uuid())$$, 'AH001', null, 'unknown');

insert into public.after_hours_sessions (id, user_id, started_at, expires_at)
values ('22222222-0000-4000-8000-000000000001', gen_random_uuid(), now() - interval '1 hour', now() - interval '1 second');
select throws_ok(
    $$select after_hours.extend_session('22222222-0000-4000-8000-000000000001', '1 hour')$$, 'AH002', null, 'past its end: over'
);
select is(
    (select ended_at from after_hours.end_session('22222222-0000-4000-8000-000000000001', 'left')), null,
    'one that ran out is not ended a second time'
);
select throws_ok($$delete from public.after_hours_sessions$$, '42501', null, 'the application deletes nothing');
select throws_ok($$select * from after_hours.events$$, '42501', null, 'and reads no events');

select * from finish();
rollback;
