-- Release a hold | locks one row
select h.id, h.match_id, h.user_id, h.kind, h.reason,
    h.placed_by, h.placed_at, h.keep_until from after_hours.holds as h order by h.id limit 50;
\prompt 'hold id: ' hold_id
\prompt 'reason: ' reason
select * from after_hours.release_hold(:'hold_id', :'reason');
