"""Writes the specs: each action of another session x each step of a batch. Run by hand after changing the matrix."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SPECS = Path(__file__).with_name("specs")
STEPS = ("1", "2", "3", "4", "5a", "5b", "5c", "6", "7", "8")


@dataclass(frozen=True)
class Action:
    """One thing another session does, as one role."""

    name: str
    title: str
    role: str
    sql: str


ACTIONS = (
    Action(
        "save", "a save; from its commit on the match stays, with all of its messages", "after_hours_app",
        "select converted_to_match_id is not null as saved from after_hours.save_match(test.match(1), test.match(99));",
    ),
    Action(
        "save_plain", "a save by plain UPDATE, as services that don't know save_match() do", "after_hours_app",
        "update public.after_hours_matches set converted_to_match_id = test.match(99) where id = test.match(1);",
    ),
    Action(
        "hold", "a hold on the match", "after_hours_moderator",
        "select kind from after_hours.place_hold(test.match(1), 'report', 'spec');",
    ),
    Action(
        "user_hold", "a hold on a user: it shares no row or key with the batch", "after_hours_moderator",
        "select kind from after_hours.place_user_hold(test.user_a(1), 'legal', 'spec');",
    ),
    Action(
        "report", "a row of the application that references the match, without cascade", "after_hours_app",
        "insert into test.reports (match_id) values (test.match(1));",
    ),
    Action(
        "release", "the release of the only hold on a match", "after_hours_moderator",
        "select release_reason from after_hours.release_hold(1, 'spec');",
    ),
    Action(
        "extend", "an expiry moved into the future", "after_hours_app",
        "update public.after_hours_matches set expires_at = now() + interval '1 hour' where id = test.match(1);",
    ),
    Action(
        "unsave", "a saved match that is un-saved: from then on it is like any other", "after_hours_app",
        "update public.after_hours_matches set converted_to_match_id = null where id = test.match(3);",
    ),
    Action(
        "late_message", "a message that comes late", "after_hours_app",
        "insert into public.after_hours_messages (match_id, sender_id, body) "
        "values (test.match(1), test.user_a(1), 'late');",
    ),
    Action(
        "app_delete", "the application, as the tables' owner, deletes the match itself", "postgres",
        "with gone as (select id from public.after_hours_matches where id = test.match(1) for update) "
        "delete from public.after_hours_messages where match_id in (select id from gone); "
        "delete from public.after_hours_matches where id = test.match(1);",
    ),
    Action(
        "second_purge", "a second purge, scheduled or by hand", "after_hours_dba",
        "CALL after_hours.purge();",
    ),
)  # fmt: skip


def spec(action: Action) -> str:
    """The text of one spec: at each step; open before and committed or rolled back after; before everything."""
    open_pairs = (
        [
            ("o_begin o_act p_begin p_batch(*) nap o_commit p_commit"),
            ("o_begin o_act p_begin p_batch(*) nap o_rollback p_commit"),
        ]
        if action.name != "second_purge"
        else []
    )
    # a whole batch, an action begun while it is open, and then the batch undone
    lines = [f"c{step} p_begin p_batch o_act free p_commit" for step in STEPS]
    lines += [f"c{step} p_begin p_batch o_act free p_rollback" for step in ("4", "6")]
    lines += ["o_act p_begin p_batch p_commit", *open_pairs]
    controls = "\n".join(
        f"step c{step}\t{{ select from pg_advisory_lock(4711, hashtext('{step}')); }}" for step in STEPS
    )
    permutations = "\n".join(f"permutation p_open {line} state rest state" for line in lines)
    begin = "" if action.name == "second_purge" else "step o_begin\t{ begin; }\n"
    return f"""# purge x {action.title}
setup\t\t{{ select test.reset(); }}

session purger
setup\t\t{{ set client_min_messages = error; set role after_hours_dba; }}
step p_open\t{{ select test.open_run() is not null as opened; }}
step p_begin\t{{ begin; }}
step p_batch\t{{ select outcome, matches, messages from after_hours.purge_batch(1); }}
step p_commit\t{{ commit; }}
step p_rollback\t{{ rollback; }}
step rest\t{{ CALL after_hours.purge(); }}

session other
setup\t\t{{ set client_min_messages = error; set role {action.role}; }}
{begin}step o_act\t{{ {action.sql} }}
{"step o_commit	{ commit; }" if begin else ""}
{"step o_rollback	{ rollback; }" if begin else ""}

session control
setup\t\t{{ set client_min_messages = error; }}
{controls}
step nap\t{{ select from pg_sleep(0.2); }}
step free\t{{ select from pg_advisory_unlock_all(); }}
step state\t{{ select test.state(); }}

{permutations}
"""


def main() -> None:
    """Write all specs."""
    for action in ACTIONS:
        (SPECS / f"{action.name}.spec").write_text(spec(action))


if __name__ == "__main__":
    main()
