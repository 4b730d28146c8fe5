-- Explain a match: why it is kept, or when it is deleted | reads one match, locks nothing
\prompt 'match id: ' match_id
select * from after_hours.explain_match(:'match_id');
