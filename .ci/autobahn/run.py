#!/usr/bin/env python3
"""Runs a WebSocket peer against the Autobahn testsuite and judges it strictly.

  run.py server NAME URL             an echo server that runs already
  run.py server NAME -- COMMAND...   an echo server to start; what it prints first
                                     names ws://127.0.0.1:PORT, and SIGINT ends it
                                     with exit code 0
  run.py client NAME -- COMMAND...   a client, given the fuzzer's URL as last argument

A case passes when both what was exchanged and how the connection ended are OK
or INFORMATIONAL. NON-STRICT fails, and so does a case that the fuzzer announced
and the report lacks: a peer that dies half way makes a short report, not a bad one.

Exit code: 0 every case passed, 1 something failed, 2 there is nothing to judge.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PASSING = ("OK", "INFORMATIONAL")
# How long a peer or a fuzzer may take to start, and a server to stop.
PATIENCE_S = 10


class NothingToJudge(Exception):
    """The run came to no report."""


def main():
    arguments, command = parse(sys.argv[1:])
    out = (arguments.out or HERE.parent / "out" / "autobahn" / arguments.name).resolve()
    out.mkdir(parents=True, exist_ok=True)
    # A report left by an earlier run must not be taken for this one's.
    (out / "index.json").unlink(missing_ok=True)
    # So that programs started here end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run = test_client if arguments.role == "client" else test_server
        complaints = run(arguments, command, out)
        announced, cases = read_report(out)
    except NothingToJudge as why:
        print(f"{arguments.name}: {why}; logs in {out}", file=sys.stderr)
        return 2
    summary, failures = judge(cases, announced)
    failures += complaints
    # Printed in one piece, since runs may go on side by side.
    print("\n  ".join([f"{arguments.name}: {summary}", *failures]), flush=True)
    return 1 if failures else 0


def parse(words):
    """The options, and the command after `--`."""
    end = words.index("--") if "--" in words else len(words)
    command = words[end + 1:]
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("name", help="what the report calls the peer")
    common.add_argument("--cases", default=",".join(f"{group}.*" for group in range(1, 11)),
                        help="patterns with commas between (default: groups 1 to 10)")
    common.add_argument("--out", type=pathlib.Path, metavar="DIR",
                        help="where reports and logs go (default: .ci/out/autobahn/NAME)")
    common.add_argument("--timeout", type=float, default=300, metavar="SECONDS",
                        help="how long the cases may take in all (default: 300)")
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    roles = parser.add_subparsers(dest="role", required=True)
    server = roles.add_parser("server", parents=[common], help="test a server")
    server.add_argument("url", nargs="?")
    roles.add_parser("client", parents=[common], help="test a client")
    arguments = parser.parse_args(words[:end])
    if arguments.role == "client" and not command:
        parser.error("a client needs -- COMMAND")
    if arguments.role == "server" and bool(arguments.url) == bool(command):
        parser.error("a server needs either URL or -- COMMAND")
    return arguments, command


def test_server(arguments, command, out):
    if not command:
        run_fuzzing_client(arguments, arguments.url, out)
        return []
    with started(command, out / "peer.log") as server:
        found = wait_for(server, lambda: re.search(r"ws://127\.0\.0\.1:\d+", read(out / "peer.log")))
        if not found:
            raise NothingToJudge("the server named no ws://127.0.0.1:PORT")
        run_fuzzing_client(arguments, found.group(), out)
        if server.poll() is not None:
            return [f"the server ended before it was told to, with {server.returncode}"]
        server.send_signal(signal.SIGINT)
        try:
            code = server.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            return [f"the server did not end within {PATIENCE_S} s of SIGINT"]
        return [f"the server ended with {code} on SIGINT"] if code else []


def run_fuzzing_client(arguments, url, out):
    servers = [{"agent": arguments.name, "url": url}]
    fuzzer = wstest("fuzzingclient", out, arguments.cases, servers=servers)
    with started(fuzzer, out / "wstest.log") as process:
        wait(process, "the fuzzing client", arguments.timeout)


def test_client(arguments, command, out):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    url = f"ws://127.0.0.1:{address[1]}"

    def listening():
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(address):
            return True

    fuzzer = wstest("fuzzingserver", out, arguments.cases, url=url)
    with started(fuzzer, out / "wstest.log") as server:
        if not wait_for(server, listening):
            raise NothingToJudge("the fuzzing server did not start")
        with started([*command, url], out / "peer.log") as client:
            code = wait(client, "the client", arguments.timeout)
    return [f"the client ended with {code}"] if code else []


def wstest(mode, out, cases, **spec):
    """The fuzzer's command line."""
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    venv = os.environ.get("AUTOBAHN_VENV") or pathlib.Path(cache) / "autobahn-testsuite-venv"
    program = pathlib.Path(venv) / "bin" / "wstest"
    if not program.exists():
        raise NothingToJudge(f"no {program}: run {HERE / 'install.sh'} first")
    spec.update({"outdir": str(out), "options": {"failByDrop": False}, "cases": cases.split(","),
                 "exclude-cases": [], "exclude-agent-cases": {}})
    path = out / "spec.json"
    path.write_text(json.dumps(spec, indent=1))
    # Without --webport 0 a fuzzing server would also take port 8080.
    return [str(program), "--mode", mode, "--spec", str(path), "--webport", "0"]


@contextlib.contextmanager
def started(command, log):
    """Runs `command` as long as the block it is used in."""
    def default_sigint():
        # A shell has its background jobs ignore SIGINT, and their children inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with open(log, "wb") as output:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=subprocess.STDOUT, preexec_fn=default_sigint,
                                       env={**os.environ, "PYTHONUNBUFFERED": "1"})
        except OSError as error:
            raise NothingToJudge(f"cannot run {command[0]}: {error.strerror}") from error
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(process, condition):
    """What `condition` gives once that is true; None if it never is."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        if result := condition():
            return result
        time.sleep(0.05)
    return None


def wait(process, what, timeout):
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired as error:
        raise NothingToJudge(f"{what} was not done after {timeout:.0f} s") from error


def read(log):
    return log.read_text(errors="replace")


def read_report(out):
    """How many cases the fuzzer announced, and the result of each that it ran."""
    announced = re.search(r"^Ok, will run (\d+) test cases", read(out / "wstest.log"), re.MULTILINE)
    if not announced or announced.group(1) == "0":
        raise NothingToJudge("the fuzzer announced no case")
    try:
        agents = json.loads(read(out / "index.json"))
    except (OSError, ValueError) as error:
        raise NothingToJudge(f"no report: {error}") from error
    if len(agents) != 1:
        raise NothingToJudge(f"the report is about {len(agents)} peers, not one")
    return int(announced.group(1)), *agents.values()


def judge(cases, announced):
    """A line of counts, and a line for each failure."""
    counts = dict.fromkeys(["OK", "INFORMATIONAL", "NON-STRICT", "FAILED"], 0)
    failures = []
    for case in sorted(cases, key=lambda case: [int(part) for part in case.split(".")]):
        behavior, close = cases[case]["behavior"], cases[case]["behaviorClose"]
        verdict = behavior if close in PASSING and behavior in counts else "FAILED"
        counts[verdict] += 1
        if verdict not in PASSING:
            failures.append(f"{case}: behavior {behavior}, close {close}")
    if missing := announced - len(cases):
        counts["FAILED"] += missing
        failures.append(f"{missing} of {announced} announced cases are not in the report")
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{announced} cases: {summary}", failures


if __name__ == "__main__":
    sys.exit(main())
