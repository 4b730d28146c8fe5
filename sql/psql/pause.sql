-- Pause announcing, purging or housekeeping, with an end and a reason | locks nothing
\prompt 'job (announce, purge, housekeeping): ' job
\prompt 'for how long (2 hours): ' how_long
\prompt 'reason: ' reason
select * from after_hours.pause_job(:'job', pg_catalog.now()
    operator(pg_catalog.+) case when :'how_long' operator(pg_catalog.<>) '' then :'how_long' else '2 hours' end::interval, :'reason');
