"""From every seat: what a role may do (seats.txt, in the diff of each change) and what it may not, tried.

`AFTER_HOURS_UPDATE=1 pytest tests/sql/test_seats.py` writes seats.txt anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.sql.purge_helpers import make_match, value

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection

SEATS = Path(__file__).with_name("seats.txt")
# every right that somebody else than the object's owner has, on anything of ours and on the application's tables
RIGHTS = """
    with objects (kind, name, owner, acl) as (
        select 'schema', n.nspname::text, n.nspowner, n.nspacl from pg_namespace as n where n.nspname = 'after_hours'
        union all
        select case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end, c.oid::regclass::text, c.relowner, c.relacl
        from pg_class as c
        where c.relnamespace = 'after_hours'::regnamespace and c.relkind in ('r', 'v', 'S')
            or c.relnamespace = 'public'::regnamespace and c.relname ~ '^after_hours_(sessions|matches|messages)$'
        union all
        select 'column', a.attrelid::regclass || '.' || a.attname, c.relowner, a.attacl
        from pg_attribute as a
        join pg_class as c on c.oid = a.attrelid
        where a.attacl is not null and (c.relnamespace = 'after_hours'::regnamespace and c.relname <> 'settings'
            or c.relnamespace = 'public'::regnamespace and c.relname ~ '^after_hours_')
        union all
        select 'routine', p.oid::regprocedure::text, p.proowner, p.proacl from pg_proc as p where p.pronamespace = 'after_hours'::regnamespace
    )
    select * from (
    select coalesce(r.rolname, 'PUBLIC') || ': ' || string_agg(distinct lower(x.privilege_type), ', ') || ' on ' || o.kind || ' ' || o.name as line
    from objects as o
    cross join aclexplode(coalesce(o.acl, acldefault(case o.kind when 'routine' then 'f' when 'schema' then 'n' when 'sequence' then 's' else 'r' end::"char", o.owner))) as x
    left join pg_roles as r on r.oid = x.grantee
    where x.grantee <> o.owner
    group by r.rolname, o.kind, o.name
    ) as r
    order by line collate "C"
"""


def test_every_right_is_written_down(db: Connection) -> None:
    lines = [row.line for row in db.execute(RIGHTS.encode()).fetchall()]
    assert len(lines) > 200
    if os.environ.get("AFTER_HOURS_UPDATE"):
        SEATS.write_text("\n".join(lines) + "\n")
    assert lines == SEATS.read_text().splitlines(), "if it is meant so: AFTER_HOURS_UPDATE=1, and look at the diff"


REFUSED = psycopg.errors.InsufficientPrivilege
EVERY = ("app", "relay", "push", "moderator", "dba", "jobs", "eraser")
# what no seat may do: (statement, seats that are left out)
TRIES = {
    "become the owner": "set role after_hours_owner",
    "become the eraser": "set role after_hours_eraser",
    "turn triggers off": "set session_replication_role = replica",
    "read secrets of the server": "select pg_read_file('/etc/passwd')",
    "change the chain's head": "update after_hours.evidence_chain set head_seq = 0",
    "change a batch": "update after_hours.purge_batches set messages = 0",
    "delete tombstones": "delete from after_hours.purged_matches",
    "write a tombstone": "insert into after_hours.purged_matches values (gen_random_uuid(), 1, now(), 1)",
    "end a hold without a trace": "delete from after_hours.holds",
    "rewrite the log of holds": "update after_hours.hold_log set release_reason = ''",
    "open a run by hand": "insert into after_hours.purge_runs (trigger) values ('manual')",
    "change what a run did": "update after_hours.purge_runs set matches = 0",
    "forge an event": "insert into after_hours.events (type) values ('after_hours:session_expired')",
    "delete events": "delete from after_hours.events",
    "open an epoch": "select after_hours.open_epoch()",
    "move the epoch's marker": "delete from after_hours.epoch_marker",
    "announce by a part": "select after_hours.emit_events('after_hours:session_expired', '{}', '{}', now(), '0', null)",
    "delete by a part": "select after_hours.delete_rows(array[gen_random_uuid()], 0)",
    "delete by another part": "select * from after_hours.delete_matches(array[gen_random_uuid()], null, now())",
    "write evidence by a part": "select after_hours.record_tombstones(1, 1, '{}', '{}', '{}')",
    "hide who changed a setting": "delete from after_hours.settings_log",
    "lock the settings": "begin; lock table after_hours.settings in exclusive mode",
    "lock the emitter": "begin; lock table after_hours.emitter in exclusive mode",
    "take a setting's row away": "delete from after_hours.settings",
    "take a trigger off": "alter table after_hours.settings disable trigger log_settings",
    "drop an index": "drop index after_hours.holds_match_id_idx",
    "replace a view": "create or replace view after_hours.health as select 1",
    "delete a message": "delete from public.after_hours_messages",
    "empty a table": "truncate public.after_hours_matches",
    "change a message": "update public.after_hours_messages set body = ''",
    "change who was in a match": "update public.after_hours_matches set user_a = gen_random_uuid()",
    "make a match old": "update public.after_hours_matches set created_at = '2000-01-01'",
    "forget what was applied": "delete from after_hours.sql_ledger",
    "say who owned the tables": "update after_hours.noted_owners set owner = 'me'",
    "stop the jobs": "select cron.unschedule(jobid) from cron.job where jobname ~ 'after_hours_nothing'; select after_hours.uninstall_jobs()",
    "read the revisions": "update public.after_hours_alembic_version set version_num = '0001'",
}
MAY = {
    ("eraser", "become the eraser"), ("eraser", "delete a message"), ("eraser", "delete by a part"),  # nobody can log in as it
    ("dba", "stop the jobs"), ("jobs", "stop the jobs"),
}  # fmt: skip


@pytest.mark.parametrize("seat", EVERY)
def test_what_no_seat_may_do_is_refused(db: Connection, connect: Callable[..., Connection], seat: str) -> None:
    make_match(db)
    db.execute("call after_hours.purge()")
    held = make_match(db)
    db.execute("select after_hours.place_hold(%s, 'legal', 'a court')", (held,))
    before = value(db, "select md5(string_agg(t::text, '' order by t::text)) from after_hours.purge_batches as t")
    done = []
    for name, statement in TRIES.items():
        with connect() as taken:
            taken.execute(f"set session authorization after_hours_{seat}".encode())
            try:
                with taken.transaction(force_rollback=True):
                    taken.execute(statement.removeprefix("begin; ").encode())
                if (seat, name) not in MAY:
                    done.append(name)
            except (REFUSED, psycopg.errors.UndefinedTable):
                pass
    assert done == []
    assert (
        value(db, "select md5(string_agg(t::text, '' order by t::text)) from after_hours.purge_batches as t") == before
    )
    assert value(db, "select count(*) from after_hours.holds") == 1


def test_a_dba_who_shortens_the_retention_meets_the_brake(db: Connection, login: Callable[..., Connection]) -> None:
    match = make_match(db, days=5)
    dba = login("after_hours_dba_login")
    dba.execute("update after_hours.settings set retention = '1 day'")
    dba.execute("call after_hours.purge()")
    assert value(db, "select status from after_hours.purge_history limit 1") == "braked"
    assert value(db, "select count(*) from public.after_hours_matches where id = %s", match) == 1
    assert value(db, "select changed_by from after_hours.settings_log") == "after_hours_dba_login"


@pytest.mark.parametrize("text", ["'; drop schema after_hours cascade; --", "%s %I %L", "\\", "{}", "e'\n\t"])
def test_a_reason_is_text(db: Connection, login: Callable[..., Connection], text: str) -> None:
    match = make_match(db)
    moderator, dba = login("after_hours_moderator_login"), login("after_hours_dba_login")
    moderator.execute("select after_hours.place_hold(%s, 'legal', %s)", (match, text))
    moderator.execute("select after_hours.block_user(gen_random_uuid(), 'infinity', %s)", (text,))
    dba.execute("select after_hours.pause_job('purge', 'infinity', %s)", (text,))
    dba.execute("select after_hours.arm(%s)", (text,))
    for query in (
        "select * from after_hours.explain_match(%s)", "select * from after_hours.purge_preview() where %s is not null",
        "select * from after_hours.health where %s is not null", "select * from after_hours.doctor() where %s is not null",
    ):  # fmt: skip
        dba.execute(query, (match,))
    dba.execute("call after_hours.purge('schedule')")
    assert text in value(db, "select detail from after_hours.purge_runs")
    moderator.execute("select after_hours.release_hold(id, %s) from after_hours.holds", (text,))
    assert value(db, "select release_reason from after_hours.hold_log") == text
