# SPDX-License-Identifier: Apache-2.0
"""What ci/test runs: the groups, in the order in which they are started when they can be."""

import argparse
import concurrent.futures
import glob
import json
import os
import re
import signal
import subprocess
import sys
import time

import runner
from runner import Failed, Group, Tally

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUDGET = 75 * 60  # seconds for everything: nothing ever hangs
FUZZ_SECONDS = 10
STORAGE_DAEMON = "/usr/bin/qemu-storage-daemon"  # a back end of others for vhost-user drives
SKIPPED = 77


class Suite:
    def __init__(self, build, kvm):
        self.build = build
        self.kvm = kvm
        self.release = os.path.join(build, "release")
        self.sanitizer = os.path.join(build, "sanitizer")
        self.fuzz = os.path.join(build, "fuzz")
        self.guests = os.path.join(build, "guests")

    # ---- builds --------------------------------------------------------------------------------

    def compile(self, job, directory, *options, env=None, target="all"):
        if not os.path.exists(os.path.join(directory, "build.ninja")):
            job.must(["cmake", "-S", ".", "-B", directory, "-G", "Ninja", *options], 120, env)
        job.must(["ninja", "-C", directory, target], 900)

    def build_release(self, job):
        self.compile(job, self.release)

    def build_sanitizer(self, job):
        self.compile(job, self.sanitizer, "-DMAYFLY_SANITIZE=ON")

    def gather(self, *sets):
        def run(job):
            job.must(["tests/e2e/gather", self.guests, *sets], 1500)
        return run

    # ---- on this machine -----------------------------------------------------------------------

    def sources(self, job):
        tally = Tally()
        for check in ("format", "includes", "scripts"):
            status, _ = job.command(["ci/check", check], 120)
            tally = runner.add(tally, Tally(failed=1) if status else Tally(passed=1))
        return tally

    def unit(self, directory):
        def run(job):
            listed = subprocess.run(["ctest", "--test-dir", directory, "--show-only=json-v1", "-L", "unit"],
                                    capture_output=True, check=True)
            commands = [test["command"] for test in json.loads(listed.stdout)["tests"] if "command" in test]
            if not commands:
                raise Failed("there are no unit tests")
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                tallies = pool.map(lambda argv: cmocka(job, argv), commands)
                return Tally(*map(sum, zip(*tallies)))
        return run

    def e2e(self, directory, *options):
        """The end-to-end tests on this machine's own KVM."""
        def run(job):
            return job.counted([f"{directory}/e2e", "--monitor", f"{directory}/mayfly",
                                "--guest", self.guests, "--strict", *options], 1200)
        return run

    def replay(self, job):
        if self.kvm == "none":
            return self.lab(job, self.release, ["replay"], ["tests/conformance"],
                            ["./replay", "--monitor", "./mayfly", "conformance"])
        return job.counted([f"{self.release}/replay", "--monitor", f"{self.release}/mayfly",
                            "tests/conformance"], 600)

    def coverage(self, job):
        status, _ = job.command(["ci/coverage"], 600)
        return Tally(failed=1) if status else Tally(passed=1)

    def fuzzers(self, job):
        self.compile(job, self.fuzz, "-DMAYFLY_FUZZ=ON", env={"CC": "clang-14"},
                     target="fuzzers")
        programs = sorted(p for p in glob.glob(f"{self.fuzz}/fuzz_*") if os.access(p, os.X_OK))
        if not programs:
            raise Failed("there are no fuzzers")
        tally = Tally()
        for program in programs:
            name = os.path.basename(program)
            corpus = os.path.join(self.build, "corpus", name)
            os.makedirs(corpus, exist_ok=True)
            seeds = [d for d in [f"tests/fuzz/corpus/{name.removeprefix('fuzz_')}"] if os.path.isdir(d)]
            status, _ = job.command([program, f"-max_total_time={FUZZ_SECONDS}", "-timeout=5",
                                     "-print_final_stats=1", f"-artifact_prefix={corpus}-",
                                     corpus, *seeds], FUZZ_SECONDS + 120)
            tally = runner.add(tally, Tally(failed=1) if status else Tally(passed=1))
        return tally

    # ---- in the labs ---------------------------------------------------------------------------

    def lab(self, job, directory, programs, others, command, options=(), limit=1200):
        files = [f"{directory}/mayfly", *(f"{directory}/{p}" for p in programs), *others]
        argv = ["ci/lab", "run", *options, "--timeout", str(limit)]
        for path in files:
            argv += ["--file", path]
        return job.counted([*argv, "--", *command], limit + 60)

    def lab_e2e(self, directory, *options, lab=(), limit=2400, guests=True):
        def run(job):
            others = [f"{self.guests}:/root/guests"] if guests else []
            others += [STORAGE_DAEMON] if os.path.exists(STORAGE_DAEMON) else []
            return self.lab(job, directory, ["mayfly-jailer", "e2e"], others,
                            ["./e2e", "--monitor", "./mayfly", "--guest", "guests", "--strict",
                             *options], lab, limit)
        return run

    def linux(self, *options, limit=2400):
        """Real guests: here if this KVM can run them, else in the AMD lab."""
        if self.kvm == "full":
            return self.e2e(self.release, *options)
        return self.lab_e2e(self.release, *options, limit=limit)

    def groups(self):
        where = {"full": "on this machine's KVM", "tiny": "in the AMD lab", "none": "in the AMD lab"}[self.kvm]
        tiny = where if self.kvm == "none" else "on this machine's KVM"
        tiny_e2e = self.lab_e2e if self.kvm == "none" else self.e2e
        return [
            Group("build", "the monitor and its tests, release build", self.build_release),
            Group("sources", "format, include direction, scripts", self.sources),
            Group("unit", "unit tests", self.unit(self.release), ("build",)),
            Group("guest-tiny", "the guest without a kernel", self.gather("tiny"), limit=300),
            Group("e2e-host", f"the monitor with bare guests, {tiny}",
                  tiny_e2e(self.release, "--label", "host", "--label", "tiny", "--not", "linux"),
                  ("build", "guest-tiny")),
            Group("replay", f"recorded exchanges with Firecracker, {tiny}", self.replay, ("build",)),
            Group("guest-linux", "two kernels, init programs, disks", self.gather("linux"), limit=1500),
            Group("build-sanitizer", "the same with AddressSanitizer and UBSan", self.build_sanitizer),
            Group("unit-sanitizer", "unit tests under the sanitizers", self.unit(self.sanitizer),
                  ("build-sanitizer",)),
            Group("e2e-host-sanitizer", f"the monitor with bare guests under the sanitizers, {tiny}",
                  tiny_e2e(self.sanitizer, "--label", "host", "--label", "tiny", "--not", "linux",
                           "--patience", "3"),
                  ("build-sanitizer", "guest-tiny")),
            Group("e2e-linux", f"real Linux guests, {where}",
                  self.linux("--label", "linux", "--label", "jail", "--not", "debian"),
                  ("build", "guest-tiny", "guest-linux")),
            Group("e2e-intel", "kernel formats, disk and ways to end on VT-x, in the Intel lab",
                  self.intel, ("build", "guest-linux")),
            Group("e2e-linux-sanitizer", "real Linux guests under the sanitizers, in the AMD lab",
                  self.lab_e2e(self.sanitizer, "--label", "sanitizer", "--not", "tiny", "--patience", "5"),
                  ("build-sanitizer", "guest-linux")),
            Group("soak", f"five minutes of all devices at once, paused, saved, forked and loaded, {where}",
                  self.linux("--label", "soak"), ("build", "guest-linux")),
            Group("soak-sanitizer", "the same under the sanitizers, in the AMD lab",
                  self.lab_e2e(self.sanitizer, "--label", "soak", "--patience", "5"),
                  ("build-sanitizer", "guest-linux")),
            Group("guest-debian", "a Debian disk and its stock kernel", self.gather("debian"), limit=900),
            Group("e2e-debian", f"a stock Debian guest, {where}",
                  self.linux("--label", "debian"), ("build", "guest-debian")),
            Group("fuzz", f"each fuzzer for {FUZZ_SECONDS} s", self.fuzzers),
            Group("coverage", "that the unit tests reach enough of what parses", self.coverage),
        ]

    def intel(self, job):
        guests = os.path.join(self.build, "guests-intel")
        job.must(["tests/e2e/gather", guests, "intel"], 1500)
        return self.lab(job, self.release, ["e2e"], [f"{guests}:/root/guests"],
                        ["./e2e", "--monitor", "./mayfly", "--guest", "guests", "--strict",
                         "--label", "intel", "--patience", "6"], ["--intel"], 1200)


def cmocka(job, argv):
    """Runs one unit test program and counts the tests in it."""
    status, output = job.command(argv, 180)
    if status == SKIPPED:
        return Tally(skipped=1)
    counts = [sum(int(n) for n in re.findall(rf"\[ *{word} *\] (\d+) test\(s\)[.,]", output))
              for word in ("PASSED", "FAILED", "SKIPPED")]
    if status and not counts[1]:  # it died before it could count
        job.note(f"[  FAILED  ] {argv[0]}: ended with status {status}")
        counts[1] = 1
    elif not status and not counts[0] and not counts[2]:
        job.note(f"[  FAILED  ] {argv[0]}: ran no test")
        counts[1] = 1
    return Tally(*counts)


def with_needs(groups, names):
    by_name = {group.name: group for group in groups}
    for name in names:
        if name not in by_name:
            sys.exit(f"ci/test: no group {name}; there are: {' '.join(by_name)}")
    wanted, queue = set(), list(names)
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue += by_name[name].needs
    return [group for group in groups if group.name in wanted]


def parse_arguments():
    parser = argparse.ArgumentParser(prog="ci/test")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--build", default="build/test")
    parser.add_argument("--elapsed", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = parse_arguments()
    os.chdir(ROOT)
    kvm = subprocess.run(["ci/kvm-kind"], capture_output=True, text=True, check=True).stdout.strip()
    groups = Suite(options.build, kvm).groups()
    if options.list:
        for group in groups:
            print(f"{group.name:20} {group.about}")
        return 0
    if options.only:
        groups = with_needs(groups, options.only)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if kvm != "full":
        why = {"none": "does not open", "tiny": "cannot run an ordinary kernel (no VT-x or AMD-V below it)"}[kvm]
        print(f"/dev/kvm {why}: real Linux guests run in the emulated lab", flush=True)
    run = runner.Runner(groups, os.path.join(options.build, "logs"), BUDGET,
                        time.monotonic() - options.elapsed)
    try:
        results = run.run()
    except KeyboardInterrupt:
        return 130
    finally:
        runner.kill_all()
    run.show_failures()
    total = Tally(*map(sum, zip(*(result.tally for result in results.values()))))
    print(f"\n{len(groups)} groups in {time.monotonic() - run.began:.0f} s; logs in {options.build}/logs")
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
