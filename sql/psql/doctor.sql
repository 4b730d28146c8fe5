-- Examine server, pg_cron, settings, foreign keys and triggers of others, drift | reads the catalog, locks nothing
select * from after_hours.doctor();
select * from after_hours.sql_drift;
