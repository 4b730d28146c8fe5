-- Hold a match or all matches of a user, so that no purge deletes them | waits for a running batch (40 ms), locks one row
\prompt 'match or user? ' what
\prompt 'its id: ' held_id
\prompt 'kind (report, legal, appeal, manual): ' kind
\prompt 'reason: ' reason
\prompt 'until (a time; Enter: until released): ' keep_until
select :'what' operator(pg_catalog.=) 'user' as is_user \gset
\if :is_user
    select * from after_hours.place_user_hold(:'held_id', :'kind', :'reason', case when :'keep_until' operator(pg_catalog.<>) '' then :'keep_until' end::timestamptz);
\else
    select * from after_hours.place_hold(:'held_id', :'kind', :'reason', case when :'keep_until' operator(pg_catalog.<>) '' then :'keep_until' end::timestamptz);
\endif
