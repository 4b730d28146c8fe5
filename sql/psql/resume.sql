-- Resume a paused job early | locks nothing
select p.* from after_hours.pauses as p where p.until operator(pg_catalog.>) pg_catalog.now();
\prompt 'job: ' job
select after_hours.resume_job(:'job') as was_paused;
