-- Everything there is to type | reads nothing, locks nothing
\t on
select after_hours.help();
\t off
