-- List of all commands | reads nothing, locks nothing
\t on
select after_hours.help();
\t off
