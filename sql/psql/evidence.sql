-- Verify the evidence of all purges; nothing listed: the chain is whole | reads all tombstones, locks nothing
select * from after_hours.verify_evidence() as v where not v.ok;
