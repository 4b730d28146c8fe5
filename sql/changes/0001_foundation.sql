-- 0001: schema, the application's tables (created or adopted) and the tables of the stored logic.
-- Write-once: its sha256 stands in alembic/versions. One transaction; locks only what it alters.

-- sql/preflight.sql has asked for everything that this needs, sql/roles.sql has made the roles.
set local search_path = pg_catalog, pg_temp; -- nothing that others made in public is found

do $$
begin
    if current_setting('after_hours.scheduler', true) is distinct from 'ticker'
        and not exists (select from pg_catalog.pg_extension as e where e.extname = 'pg_cron') then
        create extension pg_cron; -- not IF NOT EXISTS: some services refuse even that where it is installed
    end if;
end
$$;

-- The application's tables: created where missing, completed where they exist.
-- What we made is marked in the catalog: downgrade base takes back that much and no more.
create temporary table after_hours_found on commit drop as
select w.tab
from (values ('after_hours_sessions'), ('after_hours_matches'), ('after_hours_messages')) as w (tab)
where to_regclass('public.' || w.tab) is not null;

create table if not exists public.after_hours_sessions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null,
    started_at timestamptz not null default now(),
    expires_at timestamptz not null,
    ended_at timestamptz,
    end_reason text
)
with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

create table if not exists public.after_hours_matches (
    id uuid primary key default gen_random_uuid(),
    user_a uuid not null,
    user_b uuid not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    converted_to_match_id uuid
)
with (autovacuum_vacuum_scale_factor = 0.02);

-- Key and index apart: the index on match_id is not unique, so that btree stores each match once (deduplication). With
-- (match_id, id) as the key both together are 1.8 times as large, and counting, deleting and the foreign key's check cost more.
create table if not exists public.after_hours_messages (
    id bigint generated always as identity primary key,
    match_id uuid not null,
    sender_id uuid not null,
    body text not null,
    created_at timestamptz not null default now()
)
with (autovacuum_vacuum_scale_factor = 0.02);

do $$
declare
    v_table text;
    v_column text;
begin
    for v_table in
        select w.tab
        from (values ('after_hours_sessions'), ('after_hours_matches'), ('after_hours_messages')) as w (tab)
        where not exists (select from after_hours_found as f where f.tab = w.tab)
    loop
        execute format('comment on table public.%I is %L', v_table, 'After Hours created this table.');
        if v_table = 'after_hours_messages' then
            create index after_hours_messages_match_id_idx on public.after_hours_messages (match_id);
            -- 50 messages per match. A match's messages lie close together, so ANALYZE, which samples pages, sees far too few
            -- matches; "where match_id = … order by id desc limit 50" would then be planned as a backward scan of the key.
            alter table public.after_hours_messages alter column match_id set (n_distinct = -0.02);
        end if;
    end loop;
    foreach v_column in array array['ended_at timestamptz', 'end_reason text']
    loop
        if not exists (
            select
            from pg_catalog.pg_attribute
            where attrelid = 'public.after_hours_sessions'::regclass and attname = split_part(v_column, ' ', 1) and not attisdropped
        ) then
            execute 'alter table public.after_hours_sessions add column ' || v_column;
            execute format('comment on column public.after_hours_sessions.%I is %L',
                split_part(v_column, ' ', 1), 'After Hours added this column.');
            raise notice 'adopted public.after_hours_sessions: added column %', v_column;
        end if;
    end loop;
    if not exists (
        select
        from pg_catalog.pg_constraint
        where conrelid = 'public.after_hours_messages'::regclass and contype = 'f'
            and confrelid = 'public.after_hours_matches'::regclass
    ) then
        -- NOT VALID costs no scan; 0003 validates. Without cascade: a late message must stop a delete, not vanish in it.
        alter table public.after_hours_messages add constraint after_hours_messages_match_id_fkey
        foreign key (match_id) references public.after_hours_matches (id) on delete restrict not valid;
    end if;
end
$$;

create schema after_hours authorization after_hours_owner;
comment on schema after_hours is
'After Hours: stored logic for ephemeral chat sessions. Start with: select * from after_hours.health; or select after_hours.help();';

-- A span of time that is the same on every day of the year. Months have no fixed length, and parts of different sign pass a
-- comparison (a month counts as 30 days there) that their sum with an instant doesn't.
create domain after_hours.span as interval
constraint span_of_days_and_time_of_one_sign check (
    extract(year from value) = 0 and extract(month from value) = 0 and extract(day from value) >= 0
    and value >= make_interval(days => extract(day from value)::integer) and value <= interval '36500 days'
);

-- Policy -------------------------------------------------------------------------------------------------------
create table after_hours.settings (
    singleton boolean primary key default true check (singleton),
    retention after_hours.span not null default '30 days' check (retention >= interval '1 day'),
    warning_lead after_hours.span not null default '2 minutes' check (warning_lead between interval '1 second' and interval '1 hour'),
    session_length after_hours.span not null default '1 hour' check (session_length between interval '1 second' and interval '1 day'),
    announce_since timestamptz not null default now() check (announce_since between '2000-01-01Z' and '2200-01-01Z'),
    announce_mode text not null default 'auto' check (announce_mode in ('auto', 'loop', 'tick')),
    announce_batch integer not null default 2000 check (announce_batch between 1 and 50000),
    notify_payload text not null default 'full' check (notify_payload in ('full', 'wake')),
    rescue boolean not null default true,
    receipts boolean not null default true,
    event_retention after_hours.span not null default '3 days' check (event_retention >= interval '1 hour'),
    receipt_retention after_hours.span not null default '7 days' check (receipt_retention >= interval '1 hour'),
    tombstone_retention after_hours.span not null default '365 days' check (tombstone_retention >= interval '1 day'),
    purge_batch_max integer not null default 2000 check (purge_batch_max between 1 and 10000),
    purge_batch_target after_hours.span not null default '60 milliseconds'
    check (purge_batch_target between interval '5 milliseconds' and interval '5 seconds'),
    purge_max_nap after_hours.span not null default '1 second' check (purge_max_nap between interval '0' and interval '1 minute'),
    purge_max_lag bigint not null default 67108864 check (purge_max_lag between 1 and 1000000000000000),
    brake_factor numeric not null default 5 check (brake_factor between 1 and 1000000),
    brake_days integer not null default 5 check (brake_days between 1 and 365),
    brake_floor_matches bigint not null default 1000 check (brake_floor_matches between 0 and 1000000000000),
    brake_floor_messages bigint not null default 100000 check (brake_floor_messages between 0 and 1000000000000),
    accepted_publications text[] not null default '{}',
    scheduler text not null default 'pg_cron' check (scheduler in ('pg_cron', 'ticker'))
);
insert into after_hours.settings (scheduler)
values (case when current_setting('after_hours.scheduler', true) = 'ticker' then 'ticker' else 'pg_cron' end);

create table after_hours.settings_log (
    changed_at timestamptz not null default clock_timestamp(),
    changed_by text not null,
    setting text not null,
    old_value text,
    new_value text
);

create table after_hours.pauses (
    job text primary key check (job in ('announce', 'purge', 'housekeeping')),
    until timestamptz not null,
    reason text not null check (reason <> ''),
    paused_by text not null,
    paused_at timestamptz not null default clock_timestamp()
);

create table after_hours.job_plan (
    job text primary key,
    schedule text not null,
    command text not null,
    purpose text not null
);

-- Announcing ---------------------------------------------------------------------------------------------------
create unlogged table after_hours.epoch_marker (
    name text primary key
);

-- marker_oid: a dump carries it as it was, and makes the table anew: so a restored database knows that it is one
create table after_hours.epochs (
    ordinal integer generated always as identity primary key,
    name text not null unique check (name ~ '^[0-9a-f]{8}$'),
    last_id bigint not null,
    system_identifier bigint not null,
    server_started_at timestamptz not null,
    opened_at timestamptz not null default clock_timestamp(),
    marker_oid oid not null default 'after_hours.epoch_marker'::regclass
);

with opened as (
    insert into after_hours.epochs (name, last_id, system_identifier, server_started_at)
    select substr(md5(gen_random_uuid()::text), 1, 8), 0, c.system_identifier, pg_postmaster_start_time()
    from pg_control_system() as c
    returning name
)

insert into after_hours.epoch_marker (name)
select name from opened;

create table after_hours.emitter (
    singleton boolean primary key default true check (singleton),
    heartbeat_at timestamptz,
    heartbeat_by text,
    failures bigint not null default 0,
    failed_at timestamptz,
    failure text,
    swept_at timestamptz,
    sweep_at timestamptz
);
insert into after_hours.emitter default values;

-- how far one announcer has come: the emitter's instants, and its place in the retries of set_aside
create type after_hours.progress as (
    swept_at timestamptz,
    sweep_at timestamptz,
    retry_at timestamptz,
    retry_wait interval,
    retry_type text,
    retry_deadline timestamptz,
    retry_id uuid
);

create table after_hours.event_floor (
    singleton boolean primary key default true check (singleton),
    id bigint not null default 0,
    -- deadlines up to here are never announced again: their events were trimmed
    expired_to timestamptz not null default '-infinity',
    expiring_to timestamptz not null default '-infinity'
);
insert into after_hours.event_floor default values;

create table after_hours.events (
    id bigint generated always as identity primary key,
    uid uuid not null,
    epoch text not null,
    type text not null check (type in ('after_hours:session_expiring', 'after_hours:session_expired')),
    session_id uuid not null,
    user_id uuid not null,
    deadline timestamptz not null,
    due_at timestamptz not null,
    emitted_at timestamptz not null,
    known_ahead boolean not null default false,
    body text not null
);
create index events_user_id_id_idx on after_hours.events (user_id, id);
-- one event per (type, session, deadline), led by the deadline: neighbours in time are neighbours in the index
create unique index events_expired_key on after_hours.events (deadline, session_id) where type = 'after_hours:session_expired';
create unique index events_expiring_key on after_hours.events (deadline, session_id) where type = 'after_hours:session_expiring';

create table after_hours.set_aside (
    session_id uuid not null,
    type text not null,
    deadline timestamptz not null,
    sqlstate text not null,
    message text not null,
    attempts integer not null default 1,
    first_at timestamptz not null default clock_timestamp(),
    retry_at timestamptz not null,
    primary key (type, deadline, session_id)
);

-- Moderation ---------------------------------------------------------------------------------------------------
create table after_hours.holds (
    id bigint generated always as identity primary key,
    match_id uuid references public.after_hours_matches (id) on delete restrict,
    user_id uuid,
    kind text not null check (kind in ('report', 'legal', 'appeal', 'manual')),
    reason text not null check (reason <> ''),
    keep_until timestamptz,
    placed_by text not null,
    placed_at timestamptz not null default clock_timestamp(),
    check (num_nonnulls(match_id, user_id) = 1)
);
create index holds_match_id_idx on after_hours.holds (match_id) where match_id is not null;
create index holds_user_id_idx on after_hours.holds (user_id) where user_id is not null;

create table after_hours.hold_log (
    id bigint primary key,
    match_id uuid,
    user_id uuid,
    kind text not null,
    reason text not null,
    keep_until timestamptz,
    placed_by text not null,
    placed_at timestamptz not null,
    released_by text not null,
    released_at timestamptz not null default clock_timestamp(),
    release_reason text not null
);
create index hold_log_match_id_idx on after_hours.hold_log (match_id) where match_id is not null;

create table after_hours.user_blocks (
    user_id uuid primary key,
    until timestamptz,
    tokens_not_before timestamptz,
    reason text not null check (reason <> ''),
    changed_by text not null,
    changed_at timestamptz not null default clock_timestamp()
);
create index user_blocks_changed_at_idx on after_hours.user_blocks (changed_at);

-- Purging ------------------------------------------------------------------------------------------------------
create table after_hours.purge_runs (
    id bigint generated always as identity primary key,
    trigger text not null check (trigger in ('schedule', 'catch_up', 'manual')),
    slot timestamptz,
    status text not null check (status in ('running', 'succeeded', 'partial', 'braked', 'paused', 'abandoned', 'failed')),
    started_at timestamptz not null default clock_timestamp(),
    lease_until timestamptz not null,
    finished_at timestamptz,
    run_by text not null,
    client text,
    backend_pid integer not null,
    retention interval not null,
    cutoff timestamptz not null,
    match_id uuid,
    override_reason text,
    due_matches bigint not null default 0,
    match_limit bigint,
    message_limit bigint,
    passes integer not null default 1,
    cursor_expires_at timestamptz,
    cursor_match_id uuid,
    batch_size integer not null,
    batch_messages integer not null default 5000,
    batches integer not null default 0,
    matches bigint not null default 0,
    messages bigint not null default 0,
    skipped bigint not null default 0,
    failed bigint not null default 0,
    longest_batch interval,
    system_identifier bigint not null,
    database_name name not null,
    detail text,
    waits_for text,
    -- between which keys the batch before worked: see purge_batch(), step 1
    tail_expires_at timestamptz,
    tail_match_id uuid
);
create unique index purge_runs_one_running_idx on after_hours.purge_runs (status) where status = 'running';
create unique index purge_runs_one_success_per_slot_idx on after_hours.purge_runs (slot) where status = 'succeeded';
create index purge_runs_started_at_idx on after_hours.purge_runs (started_at);

create table after_hours.purge_batches (
    seq bigint primary key,
    run_id bigint not null references after_hours.purge_runs (id),
    batch integer not null,
    matches integer not null,
    messages bigint not null,
    committed_at timestamptz not null,
    prev_hash bytea not null check (octet_length(prev_hash) = 32),
    hash bytea not null check (octet_length(hash) = 32),
    digests bytea not null
);
create index purge_batches_run_id_idx on after_hours.purge_batches (run_id);

-- An application may use an id again: then it may be purged again. seq without a foreign key: its check would cost as
-- much as hashing does, nobody but purge_batch() writes here, and verify_evidence() finds what has no batch.
create table after_hours.purged_matches (
    match_id uuid not null,
    seq bigint not null,
    expired_at timestamptz not null,
    messages bigint not null,
    primary key (match_id, seq)
);
create index purged_matches_seq_idx on after_hours.purged_matches (seq);

create table after_hours.evidence_chain (
    singleton boolean primary key default true check (singleton),
    anchor_seq bigint not null default 0,
    anchor_hash bytea not null default decode(repeat('00', 32), 'hex'),
    head_seq bigint not null default 0,
    head_hash bytea not null default decode(repeat('00', 32), 'hex')
);
insert into after_hours.evidence_chain default values;

create table after_hours.purge_failures (
    match_id uuid primary key,
    sqlstate text not null,
    message text not null,
    attempts integer not null default 1,
    first_at timestamptz not null default clock_timestamp(),
    last_at timestamptz not null default clock_timestamp(),
    run_id bigint not null
);

create table after_hours.brake_releases (
    released_at timestamptz not null default clock_timestamp(),
    released_by text not null,
    reason text not null check (reason <> ''),
    system_identifier bigint not null,
    database_name name not null,
    retention interval,
    marker_oid oid not null default 'after_hours.epoch_marker'::regclass
);

-- Delivery -----------------------------------------------------------------------------------------------------
create table after_hours.relays (
    node text primary key,
    state text not null,
    mode text,
    sockets integer not null default 0,
    canary interval,
    started_at timestamptz not null,
    seen_at timestamptz not null
);

create table after_hours.receipts (
    uid uuid not null,
    node text not null,
    epoch text not null,
    event_id bigint not null,
    type text not null,
    session_id uuid not null,
    user_id uuid not null,
    due_at timestamptz not null,
    emitted_at timestamptz not null,
    first_write timestamptz not null,
    first_ack timestamptz,
    primary key (uid, node)
);
create index receipts_user_id_idx on after_hours.receipts (user_id, emitted_at);
create index receipts_emitted_at_idx on after_hours.receipts (emitted_at);

-- Webhooks for users who are not connected ---------------------------------------------------------------------
-- Policy: the DBA's, by INSERT, UPDATE and DELETE.
create table after_hours.push_targets (
    name text primary key check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    -- without user, password and fragment: those would be written to logs
    url text not null check (url ~ '^https?://[^\s/@?#]+(/[^\s#]*)?$'),
    secret_name text not null check (secret_name ~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}$'),
    types text[] not null default array['after_hours:session_expiring', 'after_hours:session_expired']
    check (types <@ array['after_hours:session_expiring', 'after_hours:session_expired'] and cardinality(types) > 0),
    wait after_hours.span not null default '10 seconds' check (wait between interval '1 second' and interval '1 hour'),
    retry_ends_for after_hours.span not null default '10 minutes' check (retry_ends_for between interval '10 seconds' and interval '1 day'),
    concurrency integer not null default 8 check (concurrency between 1 and 100),
    per_second integer not null default 50 check (per_second between 1 and 1000),
    enabled boolean not null default true,
    added_at timestamptz not null default clock_timestamp()
);

-- What the sender knows of a target. read_to: the events up to this id are decided.
create table after_hours.push_state (
    target text primary key references after_hours.push_targets (name) on update cascade on delete cascade,
    read_to bigint not null,
    tokens double precision not null,
    refilled_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp(),
    failing_since timestamptz,
    failures bigint not null default 0,
    last_error text
);

create table after_hours.pushes (
    id bigint generated always as identity primary key,
    target text not null references after_hours.push_targets (name) on update cascade on delete cascade,
    uid uuid not null,
    event_id bigint not null,
    type text not null,
    session_id uuid not null,
    user_id uuid not null,
    deadline timestamptz not null,
    not_after timestamptz not null,
    state text not null default 'waiting' check (state in ('waiting', 'sending', 'delivered', 'cancelled', 'expired')),
    attempts integer not null default 0,
    next_at timestamptz not null,
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    detail text,
    unique (target, uid)
);
create index pushes_next_at_idx on after_hours.pushes (target, next_at) where finished_at is null;
create index pushes_finished_at_idx on after_hours.pushes (finished_at) where finished_at is not null;
create index pushes_user_id_idx on after_hours.pushes (user_id);

create table after_hours.push_attempts (
    push_id bigint not null references after_hours.pushes (id) on delete cascade,
    attempt integer not null,
    node text not null,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    status integer,
    error text,
    primary key (push_id, attempt)
);

-- Servers without pg_cron: after-hours tick runs the jobs -------------------------------------------------------
create table after_hours.tickers (
    node text primary key,
    started_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp()
);

create table after_hours.ticker_runs (
    id bigint generated always as identity primary key,
    job text not null,
    node text not null,
    backend_pid integer,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    status text not null default 'running' check (status in ('running', 'succeeded', 'failed')),
    message text
);
create index ticker_runs_job_idx on after_hours.ticker_runs (job, started_at);

-- whose the application's tables were when they were looked at last; each apply notes it
create table after_hours.noted_owners (
    tab name primary key,
    owner name not null,
    noted_at timestamptz not null default now()
);

-- What was applied ---------------------------------------------------------------------------------------------
create table after_hours.sql_objects (
    kind text not null,
    identity text not null,
    definition_hash text not null,
    state_hash text not null,
    applied_at timestamptz not null default now(), -- as that of the ledger's row of the same transaction
    primary key (kind, identity)
);

create table after_hours.sql_ledger (
    id bigint generated always as identity primary key,
    revision text not null,
    tree_hash text not null,
    sql_text text not null,
    applied_by text not null default session_user,
    applied_at timestamptz not null default now(),
    server_version integer not null default current_setting('server_version_num')::integer / 10000,
    marker_oid oid not null default 'after_hours.epoch_marker'::regclass
);

do $$
declare
    v_table regclass;
    v_grant record;
begin
    for v_table in
        select c.oid::regclass
        from pg_catalog.pg_class as c
        where c.relnamespace = 'after_hours'::regnamespace and c.relkind = 'r'
    loop
        execute format('alter table %s owner to after_hours_owner', v_table);
    end loop;
    -- what ALTER DEFAULT PRIVILEGES of the migrating role has given to others
    for v_grant in
        select distinct c.oid::regclass as object, case c.relkind when 'S' then 'sequence' else 'table' end as kind,
            case when x.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(x.grantee)) end as grantee
        from pg_catalog.pg_class as c
        cross join lateral aclexplode(c.relacl) as x
        where c.relnamespace = 'after_hours'::regnamespace and x.grantee <> c.relowner
    loop
        execute format('revoke all on %s %s from %s', v_grant.kind, v_grant.object, v_grant.grantee);
    end loop;
end
$$;
