-- What the next purge would delete, what it would not, and why | reads what is overdue, locks nothing
select section, item, matches, messages, pg_catalog.pg_size_pretty(bytes) as bytes, is_estimate as estimated, detail
from after_hours.purge_preview();
