"""Runs the browser client's tests in Node.js, and compares its type declarations with its code by name."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
CLIENT = HERE.parent.parent / "clients" / "browser"


def test_the_node_tests_pass() -> None:
    files = sorted(str(file) for file in HERE.glob("*.test.mjs"))
    result = subprocess.run(["node", "--test", *files], capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_type_declarations_name_each_method_and_option() -> None:
    code, types = ((CLIENT / f"after-hours.{kind}").read_text() for kind in ("js", "d.ts"))
    public = {name for name in re.findall(r"^  (?:get )?(\w+)\(.*\) \{", code.split("export class")[1], re.MULTILINE)}
    declared = types.split("export declare class AfterHours")[1]
    assert public == set(re.findall(r"^  (?:readonly )?(\w+)(?:: |\()", declared, re.MULTILINE))
    asked = set(re.findall(r"[oO]ptions\??\.(\w+)", code)) | {"onExpiring", "onExpired"}
    offered = set(re.findall(r"^  (\w+)\??: ", types.split("interface Options")[1].split("\n}")[0], re.MULTILINE))
    assert asked == offered
