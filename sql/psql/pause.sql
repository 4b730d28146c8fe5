-- Pause announcing, purging or housekeeping, with an end and a reason | locks nothing
\prompt 'job (announce, purge, housekeeping): ' job
\prompt 'for how long (2 hours): ' how_long
\prompt 'reason: ' reason
select * from after_hours.pause_job(:'job', now() + coalesce(nullif(:'how_long', ''), '2 hours')::interval, :'reason');
