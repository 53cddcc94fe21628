# SPDX-License-Identifier: Apache-2.0
"""The rows as text for a reader, or as the table of README."""


def number(value):
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def peers_text(row):
    return "; ".join(f"{name} {number(value)}" for name, value in row.peers.items())


def print_text(rows):
    for row in rows:
        reach = "" if row.reach is None else f"   wanted: at most {number(row.reach)}"
        mark = "   MISSED" if row.missed() else ""
        print(f"{row.figure}: {number(row.value)} {row.unit}{reach}{mark}")
        for extra in (peers_text(row), row.note):
            if extra:
                print(f"    {extra}")
        print(f"    by {row.command}{', ' + row.where if row.where else ''}")


def print_markdown(rows):
    print("| figure | Mayfly | wanted | floor | Firecracker | QEMU microvm | measured by |\n"
          "|---|---|---|---|---|---|---|")
    for row in rows:
        recorded = row.peers.get("Firecracker (recorded)")
        fc = f"{number(recorded)} (recorded)" if recorded is not None else row.peers.get("Firecracker")
        peers = [row.peers.get("floor"), fc, row.peers.get("QEMU microvm")]
        cells = [row.figure, f"{number(row.value)} {row.unit}".strip(),
                 "" if row.reach is None else number(row.reach),
                 *("" if value is None else number(value) for value in peers),
                 f"`{row.command}`" + (f", {row.where}" if row.where else "")]
        print("| " + " | ".join(cells) + " |")
