# SPDX-License-Identifier: Apache-2.0
"""The two emulated computers, as command lines. Each start() returns a running Machine.

A machine has two serial ports: the first is its kernel's console and ends up in a file, the second
is a stream in both directions.
"""

import ctypes
import gzip
import mmap
import os
import pty
import shutil
import signal
import subprocess
import termios
import threading
import time
import tty

from image import PACKAGES, LabError

# The kernel's tests of its ciphers would run beside the command for half a second, and in figures.
KERNEL_WORDS = "console=ttyS0,115200 quiet mitigations=off panic=-1 nowatchdog cryptomgr.notests"

# QEMU's machine on a busy host loses time in lumps. Checks that take that for broken hardware are off:
# whether the timer ticks (or it panics), and whether the TSC is steady. Bochs' time is its own, and
# there tsc=reliable would skip the only measurement of the TSC that comes out right.
AMD_WORDS = KERNEL_WORDS + " no_timer_check tsc=reliable"
# On the wall clock a tick that never stops: QEMU was seen to lose the interrupt of a single-shot timer
# on a processor that halts between runs of a guest (one run in three of a guest that is interrupted
# all the time), and then nothing ever wakes it. A lost tick is made good by the next.
WALL_WORDS = " nohz=off highres=off"
ICOUNT_TSC_KHZ = 1000000  # one tick a nanosecond, one nanosecond an instruction


class Machine:
    def __init__(self, process, work, read_fd, write_fd):
        self.process = process
        self.console = os.path.join(work, "console")
        self.emulator = os.path.join(work, "emulator")
        self.read_fd = read_fd
        self.write_fd = write_fd

    def kill(self):
        """Ends the emulator and whatever it started. Nothing in it is worth an orderly end."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def spawn(argv, **streams):
    if not shutil.which(argv[0]):
        raise LabError(f"{argv[0]} is not installed; {PACKAGES}")
    return subprocess.Popen(argv, preexec_fn=_own_group_dies_with_us, **streams)


def _own_group_dies_with_us():
    # A lab must not outlive a ci/lab that was killed without a chance to clean up.
    pr_set_pdeathsig = 1
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def host_tsc_khz():
    """The frequency of this machine's TSC, which is also the emulated one's on the wall clock.

    The lab's kernel would measure it against emulated timers. A host too busy to run the emulator
    meanwhile makes that wrong several times over, and the lab's clock with it.
    """
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("0f3148c1e2204809d0c3"))  # rdtsc; shl $32,%rdx; or %rdx,%rax; ret
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    rates = []
    for _ in range(3):
        begin, ticks = time.monotonic_ns(), rdtsc()
        time.sleep(0.03)
        end, ticks = time.monotonic_ns(), rdtsc() - ticks
        rates.append(ticks * 1000000 // (end - begin))
    return sorted(rates)[1]


def start_amd(work, vmlinuz, base, extra, options):
    """QEMU emulating an AMD processor with SVM and nested paging."""
    initrd = os.path.join(work, "initrd")
    with open(initrd, "wb") as out:
        for part in (base, extra):
            with open(part, "rb") as f:
                shutil.copyfileobj(f, out, 1 << 20)
    console = os.path.join(work, "console")

    tsc_khz = ICOUNT_TSC_KHZ if options.clock == "icount" else host_tsc_khz()
    ticking = WALL_WORDS if options.clock == "wall" else ""
    words = f"{AMD_WORDS}{ticking} tsc_early_khz={tsc_khz} {options.append}".strip()
    # One processor, always: QEMU's multi-threaded TCG races with the kernel's patching of static
    # branches, which KVM flips when the first VM comes and the last one goes.
    argv = [
        "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "EPYC,+svm,+npt",
        "-m", str(options.mem), "-smp", "1", "-nodefaults", "-nographic", "-no-reboot",
        "-serial", f"file:{console}", "-serial", "stdio",
        "-kernel", vmlinuz, "-initrd", initrd,
        "-append", words,
    ]
    if options.clock == "icount":
        argv += ["-icount", "shift=0,sleep=off"]
    open(console, "wb").close()
    with open(os.path.join(work, "emulator"), "wb") as log:
        process = spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    return Machine(process, work, process.stdout.fileno(), process.stdin.fileno())


ISOLINUX_CFG = """\
default lab
prompt 0
label lab
  kernel vmlinuz
  initrd initrd
  append {append}
"""

# Newer processor models report an XSAVE layout that Linux refuses.
BOCHSRC = """\
cpu: model=corei7_haswell_4770, count=1, ips=200000000, reset_on_triple_fault=0
memory: guest={mem}, host={mem}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={work}/lab.iso, status=inserted
boot: cdrom
clock: sync=none
com1: enabled=1, mode=file, dev={console}
com2: enabled=1, mode=term, dev={stream}
display_library: term
log: {work}/emulator
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
speaker: enabled=0
"""


def start_intel(work, vmlinuz, base, extra, options):
    """Bochs emulating an Intel processor with VT-x, EPT and VPID."""
    make_iso(work, vmlinuz, base, extra, f"{KERNEL_WORDS} {options.append}".strip())
    console = os.path.join(work, "console")
    stream, stream_name = open_terminal()
    screen, screen_name = open_terminal()
    with open(os.path.join(work, "bochsrc"), "w") as f:
        f.write(BOCHSRC.format(work=work, mem=options.mem, console=console, stream=stream_name))
    with open(os.path.join(work, "continue"), "w") as f:
        f.write("continue\n")  # Debian's Bochs has its debugger built in, which waits for a word
    open(console, "wb").close()

    # Its screen wants to be a terminal, and someone who reads it.
    screen_fd = os.open(screen_name, os.O_RDWR | os.O_NOCTTY)
    argv = ["bochs-bin", "-q", "-f", f"{work}/bochsrc", "-rc", f"{work}/continue"]
    process = spawn(argv, stdin=screen_fd, stdout=screen_fd, stderr=screen_fd,
                    env={**os.environ, "TERM": "linux", "BXSHARE": "/usr/share/bochs"})
    os.close(screen_fd)
    threading.Thread(target=drain, args=(screen,), daemon=True).start()
    threading.Thread(target=drain_own_terminal, args=(process,), daemon=True).start()
    return Machine(process, work, stream, stream)


def make_iso(work, vmlinuz, base, extra, append):
    """A bootable disc: Bochs cannot be handed a kernel."""
    root = os.path.join(work, "iso")
    os.mkdir(root)
    shutil.copy(vmlinuz, os.path.join(root, "vmlinuz"))
    with open(os.path.join(root, "initrd"), "wb") as out, open(base, "rb") as b:
        shutil.copyfileobj(b, out)
        with open(extra, "rb") as e:
            out.write(gzip.compress(e.read(), 6, mtime=0))
    for source in ("/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32"):
        if not os.path.exists(source):
            raise LabError(f"{source} is missing; {PACKAGES}")
        shutil.copy(source, root)
    with open(os.path.join(root, "isolinux.cfg"), "w") as f:
        f.write(ISOLINUX_CFG.format(append=append))
    if not shutil.which("xorriso"):
        raise LabError(f"xorriso is not installed; {PACKAGES}")
    made = subprocess.run(
        ["xorriso", "-as", "mkisofs", "-quiet", "-o", f"{work}/lab.iso", "-b", "isolinux.bin",
         "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", root],
        capture_output=True, text=True)
    if made.returncode != 0:
        raise LabError(f"xorriso made no disc: {made.stderr.strip()}")
    shutil.rmtree(root)


def open_terminal():
    """(our end, the name of the other end) of a new pseudo-terminal in raw mode.

    The other end stays open here too, so that ours never reads "hung up" before the emulator has
    opened it.
    """
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    return ours, os.ttyname(theirs)


def drain_own_terminal(process):
    """Reads what Bochs draws on.

    It opens a pseudo-terminal of its own and shows and hides the cursor there at each refresh. If
    nobody reads that, it stands still for ever once the terminal is full, some minutes into a run.
    """
    while process.poll() is None:
        try:
            drain(open_own_terminal(process.pid))
            return
        except (OSError, StopIteration, termios.error):  # it has not been made yet
            time.sleep(0.2)


def open_own_terminal(pid):
    fds = os.listdir(f"/proc/{pid}/fd")
    fd = next(fd for fd in fds if os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/ptmx")
    with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as info:
        index = next(line.split()[1] for line in info if line.startswith("tty-index:"))
    theirs = os.open(f"/dev/pts/{index}", os.O_RDWR | os.O_NOCTTY)
    tty.setraw(theirs)  # or what has no line's end would never be read
    return theirs


def drain(fd):
    try:
        while os.read(fd, 65536):
            pass
    except OSError:
        pass
