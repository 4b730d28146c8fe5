create or replace function after_hours.brake(
    p_match_id uuid default null,
    out is_on boolean, out is_released boolean, out reason text, out hint text,
    out due_matches bigint, out due_messages bigint, out match_limit bigint, out message_limit bigint
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set jit = off
as $$
declare
    v_settings after_hours.settings;
    v_cutoff timestamptz := after_hours.purge_cutoff();
    v_now timestamptz := clock_timestamp();
    v_me record;
    v_success timestamptz;
    v_last timestamptz;
    v_release timestamptz;
    v_seen interval;
    v_known record;
    v_shortened record;
    v_braked timestamptz;
    v_days numeric;
    v_median_matches numeric;
    v_median_messages numeric;
    v_reasons text[] := '{}';
begin
    -- Purpose: decide whether a purge run must stop before it deletes anything: of all matches, or of one (p_match_id).
    --          Evaluated before each run: unusual volume, shortened retention, another database, implausible clock.
    -- Returns: is_on: a run would stop; is_released: by arm() or p_override_brake; reason and hint; what is due (messages are
    --          counted to just above their limit); the limits of a run.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    begin
        perform after_hours.assert_row_visibility();
    exception when sqlstate 'AH015' then
        -- returned as a reason, so that health and purge_runs show it; a release has no effect on it
        is_on := true;
        is_released := false;
        get stacked diagnostics reason = message_text, hint = pg_exception_hint;
        return;
    end;
    select s.* into v_settings from after_hours.settings as s;
    v_me := after_hours.database_identity();
    v_success := (
        select max(r.started_at) from after_hours.purge_runs as r where r.status = 'succeeded' and r.match_id is null
    );
    v_last := greatest(
        (select max(r.started_at) from after_hours.purge_runs as r where r.status <> 'braked'),
        (select max(b.released_at) from after_hours.brake_releases as b)
    );
    select b.released_at, b.retention
    into v_release, v_seen
    from after_hours.brake_releases as b
    where b.system_identifier = v_me.system_identifier and b.database_name = v_me.database_name and b.released_at <= v_now
    order by b.released_at desc
    limit 1;

    -- the usual day: deletions per day, over the days that deleted something; those after an outage are spread over its days
    with daily as (
        select (r.started_at at time zone 'UTC' - interval '3 hours')::date as day, sum(r.matches) as matches, sum(r.messages) as messages
        from after_hours.purge_runs as r
        where r.match_id is null and r.started_at > v_now - interval '60 days' and r.started_at <= v_now
        group by 1
        having bool_or(r.status = 'succeeded')
    ),

    spread as (
        select d.day, d.matches / s.days as matches, d.messages / s.days as messages
        from (select d.*, coalesce(d.day - lag(d.day) over (order by d.day), 1) as days from daily as d) as d
        cross join lateral (select greatest(d.days, 1) as days) as s
        where d.matches > 0
        order by d.day desc
        limit 14
    )

    select percentile_disc(0.5) within group (order by s.matches), percentile_disc(0.5) within group (order by s.messages)
    into v_median_matches, v_median_messages
    from spread as s;
    -- days on which the brake was on don't count: waiting must not release it
    v_braked := (
        select min(r.started_at)
        from after_hours.purge_runs as r
        where r.status = 'braked' and r.match_id is null and r.started_at > v_success
    );
    v_days := least(greatest(extract(epoch from least(v_braked, v_now) - v_success) / 86400.0, 1), v_settings.brake_days);
    match_limit := greatest(
        v_settings.brake_floor_matches, ceil(v_settings.brake_factor * coalesce(v_median_matches, 0) * coalesce(v_days, 1))
    );
    message_limit := greatest(
        v_settings.brake_floor_messages, ceil(v_settings.brake_factor * coalesce(v_median_messages, 0) * coalesce(v_days, 1))
    );
    due_matches := (
        select count(*)
        from after_hours.purgeable_matches as p
        where p.expires_at < v_cutoff and (p_match_id is null or p.id = p_match_id)
    );
    due_messages := (
        select count(*)
        from (
            select
            from after_hours.purgeable_matches as p
            join public.after_hours_messages as g on g.match_id = p.id
            where p.expires_at < v_cutoff and (p_match_id is null or p.id = p_match_id)
            limit message_limit + 1
        ) as g
    );
    is_released := coalesce(
        v_release > v_now - interval '1 day' and (v_success is null or v_success < v_release), false
    );
    -- the volume check does not apply to a single match; the other checks do
    if p_match_id is null and (due_matches > match_limit or due_messages > message_limit) then
        v_reasons := v_reasons || format(
            'volume: %s matches (limit %s), %s messages (limit %s) are overdue%s',
            due_matches, match_limit, case when due_messages > message_limit then 'more than ' || message_limit else due_messages::text end,
            message_limit,
            case
                when v_median_matches is null then '; no earlier run deleted anything'
                else format('; a usual day deletes %s matches, the last success was %s days ago',
                    round(v_median_matches), round(extract(epoch from v_now - v_success) / 86400.0, 1))
            end
        );
    end if;
    select l.old_value, l.new_value, l.changed_by, l.changed_at
    into v_shortened
    from after_hours.settings_log as l
    where l.setting = 'retention' and l.changed_at > v_now - interval '1 day'
        and (v_release is null or l.changed_at > v_release or v_seen is distinct from v_settings.retention)
        and l.new_value::interval < l.old_value::interval
        and l.old_value::interval > v_settings.retention -- not if it was changed back
    order by l.changed_at desc
    limit 1;
    if found then
        is_released := false; -- a release covers the retention at that time: a later shortening needs a new release
        v_reasons := v_reasons || format('retention: shortened from %s to %s by %s at %s',
            v_shortened.old_value, v_shortened.new_value, v_shortened.changed_by, after_hours.iso_utc(v_shortened.changed_at));
    end if;
    if after_hours.is_copy() then
        v_known := after_hours.known_identity();
        v_reasons := v_reasons || case
            when v_known.system_identifier = v_me.system_identifier
                and coalesce(v_known.database_name, v_me.database_name) = v_me.database_name
                then 'identity: this database was restored from a dump: holds and saves since then may be missing'
            else format('identity: this is database %s of cluster %s, the last run was in %s of cluster %s',
            v_me.database_name, v_me.system_identifier, coalesce(v_known.database_name, v_me.database_name), v_known.system_identifier) end;
    end if;
    if v_last < v_now - interval '1 year' then
        v_reasons := v_reasons || format('clock: it is %s, the last run was at %s',
            after_hours.iso_utc(v_now), after_hours.iso_utc(v_last));
    end if;
    is_on := cardinality(v_reasons) > 0 and not is_released;
    reason := nullif(array_to_string(v_reasons, '; '), '');
    hint := case
        when is_on then 'select * from after_hours.purge_preview(); and if the result is right: '
            || 'select after_hours.arm(''why''); the next run continues.'
    end;
end
$$;
comment on function after_hours.brake(uuid) is
'Whether a purge run would stop before it deletes: is_on, reason, what is due and the limits. Volume: overdue > brake_factor x '
'(median per day x days since the last success, at most brake_days) and above the floor. Also: retention shortened '
'within 24 h, another identity, a clock more than a year ahead of the last run. Released by arm() or p_override_brake.';
alter function after_hours.brake(uuid) owner to after_hours_owner;
revoke all on function after_hours.brake(uuid) from public;
grant execute on function after_hours.brake(uuid) to after_hours_jobs, after_hours_dba;
