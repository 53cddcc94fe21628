# SPDX-License-Identifier: Apache-2.0
"""Runs groups of tests, two at a time, each as soon as what it needs is there.

A group is a function that gets a Job, runs commands through it and returns a Tally. Everything has
a time limit; what runs is shown every twenty seconds; what a command wrote is kept in a log, whose
end is shown if the group fails.
"""

import collections
import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time

WORKERS = 2
HEARTBEAT = 20  # seconds between signs of life
NOT_RUN = "could not run without"
TAIL = 40  # lines shown of a failed group's log

Tally = collections.namedtuple("Tally", "passed failed skipped", defaults=(0, 0, 0))


def add(a, b):
    return Tally(*(x + y for x, y in zip(a, b)))


live = set()  # processes that run now


class Failed(Exception):
    """A group that could not do what it is for; the text says why."""


@dataclasses.dataclass
class Group:
    name: str
    about: str
    run: object  # function of a Job; returns a Tally, or raises Failed
    needs: tuple = ()
    limit: int = 600  # seconds for each of its commands, unless said otherwise


@dataclasses.dataclass
class Result:
    tally: Tally
    seconds: float
    why: str = ""  # of a failure


class Job:
    """A group's way to run commands. Several threads may use it at once."""

    def __init__(self, group, log_path, deadline):
        self.group = group
        self.log_path = log_path
        self.log = open(log_path, "wb")
        self.deadline = deadline

    def command(self, argv, limit=None, env=None):
        """Runs it to its end; (status, output). A command that takes too long is killed: Failed."""
        limit = min(limit or self.group.limit, max(1, self.deadline - time.monotonic()))
        self.note("$ " + " ".join(argv))
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True,
                                   env={**os.environ, **(env or {})})
        live.add(process)
        timed_out = threading.Event()

        def end():
            timed_out.set()
            kill_groups([process])

        killer = threading.Timer(limit, end)
        killer.start()
        output = bytearray()
        with process.stdout:
            while data := process.stdout.read1(65536):
                output += data
                self.log.write(data)
                self.log.flush()
        status = process.wait()
        killer.cancel()
        signal_group(process, signal.SIGKILL)  # whatever it left behind
        live.discard(process)
        if timed_out.is_set():
            raise Failed(f"not done after {limit:.0f} s: {' '.join(argv)[:120]}")
        return status, output.decode(errors="replace")

    def must(self, argv, limit=None, env=None):
        """A command that is no test itself but has to work."""
        status, output = self.command(argv, limit, env)
        if status:
            raise Failed(f"status {status} from {' '.join(argv)[:120]}")
        return output

    def counted(self, argv, limit=None, env=None):
        """A program whose last line counts its tests: its Tally."""
        status, output = self.command(argv, limit, env)
        found = re.findall(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$", output, re.M)
        if not found:
            raise Failed(f"status {status} and no count of tests from {' '.join(argv)[:120]}")
        tally = Tally(*(int(n or 0) for n in found[-1]))
        if status and not tally.failed:
            raise Failed(f"all passed but status {status} from {' '.join(argv)[:120]}")
        return tally

    def note(self, line):
        self.log.write((line + "\n").encode())
        self.log.flush()


def signal_group(process, number):
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def kill_groups(processes):
    """Lets them clean up behind themselves (a lab removes its files), but not for long."""
    for process in processes:
        signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(0.05)
    for process in processes:
        signal_group(process, signal.SIGKILL)


def kill_all():
    kill_groups(list(live))


def last_line(path):
    with open(path, "rb") as f:
        f.seek(max(0, os.path.getsize(path) - 2000))
        lines = f.read().decode(errors="replace").split("\n")
    text = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "".join(c for c in text if c.isprintable())[:90]


class Runner:
    def __init__(self, groups, logs, budget, began):
        self.groups = groups
        self.logs = logs
        self.began = began
        self.deadline = time.monotonic() + budget
        self.results = {}
        self.running = {}
        self.state = threading.Condition()
        os.makedirs(logs, exist_ok=True)

    def say(self, text):
        line = f"[{time.monotonic() - self.began:5.0f} s] {text}\n"
        sys.stdout.write(line)  # in one piece: two threads speak
        sys.stdout.flush()

    def run(self):
        workers = [threading.Thread(target=self.work, daemon=True) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        shown = time.monotonic()
        while any(worker.is_alive() for worker in workers):
            time.sleep(0.1)
            if time.monotonic() - shown >= HEARTBEAT:
                shown = time.monotonic()
                self.show_running()
        return self.results

    def show_running(self):
        with self.state:
            running = list(self.running.items())
        for name, (begin, log) in running:
            if time.monotonic() - begin >= HEARTBEAT:
                self.say(f"  ... {name}, {time.monotonic() - begin:.0f} s: {last_line(log)}")

    def work(self):
        while group := self.take():
            begin = time.monotonic()
            try:
                result = self.run_group(group)
            except Exception as e:  # a bug in the suite must not look like a pass
                result = Result(Tally(failed=1), 0, f"{type(e).__name__}: {e}")
            result.seconds = time.monotonic() - begin
            with self.state:
                del self.running[group.name]
                self.results[group.name] = result
                self.state.notify_all()
            self.say(self.describe(group, result))

    def take(self):
        """The first group that is neither done nor running and has all it needs; None at the end."""
        with self.state:
            while True:
                waiting = [g for g in self.groups
                           if g.name not in self.results and g.name not in self.running]
                if not waiting:
                    return None
                for group in waiting:
                    if all(need in self.results for need in group.needs):
                        log = os.path.join(self.logs, group.name + ".log")
                        open(log, "wb").close()
                        self.running[group.name] = (time.monotonic(), log)
                        return group
                self.state.wait()

    def run_group(self, group):
        for need in group.needs:
            if self.results[need].why:
                return Result(Tally(failed=1), 0, f"{NOT_RUN} {need}")
        self.say(f"{group.name}: {group.about}")
        job = Job(group, self.running[group.name][1], self.deadline)
        try:
            tally = group.run(job) or Tally()
            return Result(tally, 0, f"{tally.failed} failed" if tally.failed else "")
        except Failed as e:
            job.note(str(e))
            return Result(Tally(failed=1), 0, str(e))
        finally:
            job.log.close()

    def describe(self, group, result):
        tally, text = result.tally, f"{group.name}: "
        if result.why and tally == Tally(failed=1):
            text += f"FAILED: {result.why}"
        elif sum(tally):
            text += "FAILED: " if tally.failed else ""
            text += f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped"
        else:
            text += "done"
        return f"{text} ({result.seconds:.0f} s)"

    def show_failures(self):
        for group in self.groups:
            result = self.results[group.name]
            if not result.why:
                continue
            log = os.path.join(self.logs, group.name + ".log")
            if result.why.startswith(NOT_RUN):
                continue  # the one it waited for says why
            print(f"\n---- {group.name}: {result.why}; all of it: {log}")
            for line in telling_lines(log):
                print("    " + line)


def telling_lines(path):
    """What of a log says why it failed: each failed test with the lines after it, or its end."""
    with open(path, encoding="utf-8", errors="replace") as f:
        lines = f.read().splitlines()
    marks = re.compile(r"^not ok|\[  FAILED  \]|\[  ERROR   \]|\[   LINE   \]|ERROR: |runtime error|bug at |"
                       r"Test unit written|FAILED:| error: ")
    chosen = set()
    for i, line in enumerate(lines):
        if marks.search(line):
            chosen.update(range(max(0, i - 1), min(len(lines), i + 8)))
    picked = [lines[i] for i in sorted(chosen)] or lines
    return [line[:200] for line in (picked[:3 * TAIL] if chosen else picked[-TAIL:])]
