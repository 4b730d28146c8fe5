-- The roles that log in over the network, with the passwords of the environment. All else is the migration's.
\getenv superuser POSTGRES_PASSWORD
\getenv relay AFTER_HOURS_RELAY_PASSWORD
\getenv app AFTER_HOURS_APP_PASSWORD
set log_statement = 'none';
set log_min_error_statement = 'panic';
select format('create role %I login', name) as statement
from unnest(array['after_hours_relay', 'after_hours_app']) as name
where not exists (select from pg_catalog.pg_roles where rolname = name)
\gexec
alter role postgres password :'superuser';
alter role after_hours_relay password :'relay';
alter role after_hours_app password :'app';
