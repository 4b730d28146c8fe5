-- 0006: webhooks for users who are not connected: targets, their state, pushes and attempts; and the role of the sender. Write-once.
set local lock_timeout = '5s';
do $$
begin
    if not exists (select from pg_catalog.pg_roles as r where r.rolname = 'after_hours_push') then
        create role after_hours_push login;
    end if;
end
$$;

-- Policy: the DBA's, by INSERT, UPDATE and DELETE.
create table if not exists after_hours.push_targets (
    name text primary key check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    -- without user, password and fragment: those would be written to logs
    url text not null check (url ~ '^https?://[^\s/@?#]+(/[^\s#]*)?$'),
    secret_name text not null check (secret_name ~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}$'),
    types text[] not null default array['after_hours:session_expiring', 'after_hours:session_expired']
    check (types <@ array['after_hours:session_expiring', 'after_hours:session_expired'] and cardinality(types) > 0),
    wait interval not null default '10 seconds' check (wait between interval '1 second' and interval '1 hour'),
    retry_ends_for interval not null default '10 minutes' check (retry_ends_for between interval '10 seconds' and interval '1 day'),
    concurrency integer not null default 8 check (concurrency between 1 and 100),
    per_second integer not null default 50 check (per_second between 1 and 1000),
    enabled boolean not null default true,
    added_at timestamptz not null default clock_timestamp()
);

-- What the sender knows of a target. read_to: the events up to this id are decided.
create table if not exists after_hours.push_state (
    target text primary key references after_hours.push_targets (name) on update cascade on delete cascade,
    read_to bigint not null,
    tokens double precision not null,
    refilled_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp(),
    failing_since timestamptz,
    failures bigint not null default 0,
    last_error text
);

create table if not exists after_hours.pushes (
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
create index if not exists pushes_next_at_idx on after_hours.pushes (target, next_at) where finished_at is null;
create index if not exists pushes_finished_at_idx on after_hours.pushes (finished_at) where finished_at is not null;
create index if not exists pushes_user_id_idx on after_hours.pushes (user_id);

create table if not exists after_hours.push_attempts (
    push_id bigint not null references after_hours.pushes (id) on delete cascade,
    attempt integer not null,
    node text not null,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    status integer,
    error text,
    primary key (push_id, attempt)
);

alter table after_hours.push_targets owner to after_hours_owner;
alter table after_hours.push_state owner to after_hours_owner;
alter table after_hours.pushes owner to after_hours_owner;
alter table after_hours.push_attempts owner to after_hours_owner;
