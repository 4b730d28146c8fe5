-- Events sent to a user: how late, by which relay, acknowledged or not | reads one user's events and receipts, locks nothing
\prompt 'user id: ' user_id
select * from after_hours.delivery_report as d where d.user_id operator(pg_catalog.=) :'user_id';
