-- Purge now: preview, confirmation, progress, result | locks 40 ms at a time: overdue matches, their messages; holds in SHARE mode
\set is_sure f
select pg_catalog.transaction_timestamp() operator(pg_catalog.<) pg_catalog.statement_timestamp() as is_in_transaction, null as answer \gset
\if :is_in_transaction
    \echo 'You are inside a transaction: type COMMIT; or ROLLBACK; first. Nothing was deleted.'
\else
    select section, item, matches, messages, pg_catalog.pg_size_pretty(bytes) as bytes, is_estimate as estimated, detail
    from after_hours.purge_preview()
    where section operator(pg_catalog.=) any(array['brake', 'due', 'excluded']) or detail operator(pg_catalog.~~) 'RED%';
    select matches as due from after_hours.purge_preview() where section operator(pg_catalog.=) 'due' limit 1 \gset
    \prompt 'To delete the matches that are due, type their number: ' answer
    select :'answer' operator(pg_catalog.=) :'due' and :due operator(pg_catalog.>) 0 as is_sure \gset
    \if :is_sure
        call after_hours.purge();
        select run_id, status, matches, messages, duration, longest_batch, detail
        from after_hours.purge_history
        where run_id is not null
        order by run_id desc
        limit 1;
        \echo '--- the receipt of one match, and the state of the hash chain'
        select d.statement, d.hash, d.is_verified
        from (select t.match_id from after_hours.purged_matches as t order by t.seq desc limit 1) as t
        cross join lateral after_hours.deletion_receipt(t.match_id) as d
        limit 1;
        select v.ok, v.detail from after_hours.verify_evidence() as v where v.run_id is null;
        \echo '--- matches that were not deleted, and why'
        select n.reason, pg_catalog.count(*) as matches, pg_catalog.min(n.since) as since, pg_catalog.min(n.detail) as for_example
        from after_hours.not_purged as n
        group by n.reason
        order by n.reason;
    \else
        \echo 'Nothing was deleted.'
    \endif
\endif
\set is_sure f
