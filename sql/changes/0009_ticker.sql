-- 0009: servers without pg_cron: after-hours tick runs the jobs. Write-once. ACCESS EXCLUSIVE on settings, for an instant.
set local lock_timeout = '5s';
alter table after_hours.settings
add column if not exists scheduler text not null default 'pg_cron' check (scheduler in ('pg_cron', 'ticker'));
update after_hours.settings set scheduler = 'ticker'
where current_setting('after_hours.scheduler', true) = 'ticker' and scheduler <> 'ticker';

create table if not exists after_hours.tickers (
    node text primary key,
    started_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp()
);
create table if not exists after_hours.ticker_runs (
    id bigint generated always as identity primary key,
    job text not null,
    node text not null,
    backend_pid integer,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    status text not null default 'running' check (status in ('running', 'succeeded', 'failed')),
    message text
);
create index if not exists ticker_runs_job_idx on after_hours.ticker_runs (job, started_at);
alter table after_hours.tickers owner to after_hours_owner;
alter table after_hours.ticker_runs owner to after_hours_owner;
