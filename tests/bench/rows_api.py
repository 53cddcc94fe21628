# SPDX-License-Identifier: Apache-2.0
"""What the control plane costs on this machine, beside bare programs behind a Unix socket.

Of interleaved repetitions the best counts, for both alike: others are those of a busier machine.
"""

import contextlib
import os
import subprocess
import time

from common import MAYFLY, Row, fail, guest, say

ROUND_TRIPS, STARTS, REPEATS = 5000, 40, 5
REQUEST = "GET /machine-config HTTP/1.1\r\nHost: localhost\r\n\r\n"


def on_one_cpu():
    """Client and server on one processor: on two, most of a round trip is waking the other."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@contextlib.contextmanager
def server(socket, *argv):
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               preexec_fn=on_one_cpu)
    deadline = time.monotonic() + 10
    try:
        while not os.path.exists(socket):
            if time.monotonic() > deadline or process.poll() is not None:
                fail(f"{argv[0]} did not start")
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait()


def microseconds(*argv, **options):
    return float(subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE, timeout=60,
                                **options).stdout)


def round_trips(bench, work):
    echo, api = os.path.join(work, "echo.sock"), os.path.join(work, "api.sock")
    times = {echo: [], api: []}
    with server(echo, bench, "echo", echo), server(api, MAYFLY, "--api-sock", api):
        for _ in range(REPEATS):
            for socket, list_ in times.items():
                list_.append(microseconds(bench, "ask", socket, str(ROUND_TRIPS), REQUEST,
                                          preexec_fn=on_one_cpu))
    return min(times[echo]), min(times[api])


def starts(bench, work):
    socket = os.path.join(work, "start.sock")
    commands = {"floor": [bench, "listen", socket], "mayfly": [MAYFLY, "--api-sock", socket]}
    times = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, command in commands.items():
            times[name].append(microseconds(bench, "start", socket, str(STARTS), *command))
    return min(times["floor"]), min(times["mayfly"])


def row_api(_, work):
    say("api: requests and the start, on this machine")
    bench = guest("bench") + "/sockbench"
    rows = []
    for figure, measure, limit in (
            ("GET /machine-config on a kept connection, there and back", round_trips, 2),
            ("exec to the API accepting", starts, 1.5)):
        floor, value = measure(bench, work)
        rows.append(Row(figure, "this machine, wall", value, "us", limit * floor, {"floor": floor},
                        f"{value / floor:.2f} of the floor, wanted {limit}", "ci/bench --only api"))
    return rows
