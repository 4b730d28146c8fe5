-- Verify the evidence of all purges; no rows: the chain is intact | reads all tombstones, locks nothing
select * from after_hours.verify_evidence() as v where not v.ok;
