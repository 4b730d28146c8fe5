-- Who holds a lock that announcing or the purge waits for, and the statement that ends it | locks nothing
select h.description, h.statement from after_hours.list_lock_holders() as h;
