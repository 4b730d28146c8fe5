create or replace view after_hours.delivery_report
with (security_barrier = true)
as
select
    d.user_id, d.type, d.session_id, d.deadline, d.due_at, d.emitted_at, d.node, d.first_write, d.first_ack,
    round(extract(epoch from d.emitted_at - d.due_at) * 1000, 1) as emitted_after_ms,
    round(extract(epoch from d.first_write - d.due_at) * 1000, 1) as written_after_ms,
    round(extract(epoch from d.first_ack - d.due_at) * 1000, 1) as acknowledged_after_ms,
    case
        when d.first_ack is not null then 'acknowledged'
        when d.first_write is not null then 'written, not acknowledged'
        else 'no relay has written it'
    end as verdict
from (
    select
        e.user_id, e.type, e.session_id, e.deadline, e.due_at, e.emitted_at, r.node, r.first_write, r.first_ack
    from after_hours.events as e
    left join after_hours.receipts as r on r.user_id = e.user_id and r.uid = e.uid
    union all
    -- receipts are kept longer than events
    select
        r.user_id, r.type, r.session_id,
        case r.type when 'after_hours:session_expired' then r.due_at end as deadline,
        r.due_at, r.emitted_at, r.node, r.first_write, r.first_ack
    from after_hours.receipts as r
    where not exists (select from after_hours.events as e where e.user_id = r.user_id and e.uid = r.uid)
) as d
order by d.emitted_at;
comment on view after_hours.delivery_report is
'Which events were sent to a user, how late, by which relay, and whether the client acknowledged them. Always give a '
'user_id. Kept as long as receipts. Costs: the rows of one user.';
alter view after_hours.delivery_report owner to after_hours_owner;
revoke all on after_hours.delivery_report from public;
grant select on after_hours.delivery_report to after_hours_dba, after_hours_moderator;
