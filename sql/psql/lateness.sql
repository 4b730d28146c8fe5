-- How late events were, per hour | reads all events of three days, locks nothing
select * from after_hours.lateness limit 48;
