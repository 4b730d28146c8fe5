-- Check server, pg_cron, settings, foreign keys and triggers of the application, drift | reads the catalog, locks nothing
select * from after_hours.doctor();
select * from after_hours.sql_drift;
