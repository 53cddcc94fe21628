# SPDX-License-Identifier: Apache-2.0
"""The lab's kernel and its base image: what a lab boots before the files of a run are added.

Everything comes from Debian packages. An image is named by the content of all that goes into it,
so it is built once and again only when something changed.
"""

import contextlib
import fcntl
import glob
import gzip
import hashlib
import lzma
import os
import re
import struct
import subprocess
import sys
import tempfile
import time

import cpio

SIGNATURE_MARK = b"~Module signature appended~\n"
MODULE_SIGNATURE_SIZE = 12

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGES = "run ci/packages lab"

# Loaded by name; what they depend on comes along.
MODULES = {
    "amd": ["kvm-amd", "tun", "brd", "loop", "vhost_net", "vhost_vsock", "bridge", "veth"],
    "intel": ["kvm-intel", "tun", "brd", "loop"],
}
PROGRAMS = {
    "amd": ["/sbin/mke2fs", "/sbin/e2fsck"],
    "intel": [],
}


class LabError(Exception):
    """Something a user can put right; the text says how."""


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("MAYFLY_CACHE") or os.path.join(base, "mayfly")


def debian_kernel():
    """(vmlinuz, modules directory) of the newest Debian cloud kernel on this machine.

    Either the package is installed, or ci/packages has unpacked it into the cache, which is
    quicker and leaves the machine's own boot alone.
    """
    roots = glob.glob(os.path.join(cache_dir(), "debian-kernel-*")) + ["/"]
    found = []
    for root in roots:
        for vmlinuz in glob.glob(os.path.join(root, "boot/vmlinuz-6.12*-cloud-amd64")):
            release = os.path.basename(vmlinuz).removeprefix("vmlinuz-")
            modules = os.path.join(root, "lib/modules", release)
            if os.path.isdir(modules):
                version = [int(n) for n in re.findall(r"\d+", release)]
                found.append((version, vmlinuz, modules))
    if not found:
        raise LabError(f"no Debian cloud kernel 6.12 on this machine; {PACKAGES}")
    _, vmlinuz, modules = max(found)
    return vmlinuz, modules


def module_closure(modules, names):
    """Paths (relative to `modules`) of the named modules and all they need, needed ones first.

    Names that are built into this kernel are skipped.
    """
    needs, by_name = {}, {}
    with open(os.path.join(modules, "modules.dep")) as f:
        for line in f:
            path, _, deps = line.partition(":")
            needs[path] = deps.split()
            by_name[module_name(path)] = path
    with open(os.path.join(modules, "modules.builtin")) as f:
        builtin = {module_name(line.strip()) for line in f}

    ordered = []

    def visit(path):
        for dep in needs[path]:
            visit(dep)
        if path not in ordered:
            ordered.append(path)

    for name in names:
        name = name.replace("-", "_")
        if name in by_name:
            visit(by_name[name])
        elif name not in builtin:
            raise LabError(f"this kernel has no module {name}: {modules}")
    return [(path, needs[path]) for path in ordered]


def module_name(path):
    return os.path.basename(path).split(".ko")[0].replace("-", "_")


def lean_module(path):
    """The content of a module, without its compression and its signature.

    An emulated machine takes 0.3 of the 0.67 virtual seconds of loading kvm.ko for checking the
    signature. The module itself stays as Debian built it.
    """
    with (lzma.open if path.endswith(".xz") else open)(path, "rb") as f:
        content = f.read()
    if not content.endswith(SIGNATURE_MARK):
        return content
    # Before the mark: struct module_signature, whose last field is the signature's length.
    header = len(content) - len(SIGNATURE_MARK) - MODULE_SIGNATURE_SIZE
    (length,) = struct.unpack_from(">I", content, header + MODULE_SIGNATURE_SIZE - 4)
    return content[: header - length]


def base_image(kind):
    """Path of the base image of the lab `kind` ("amd": plain; "intel": gzip'd), built if need be."""
    _, modules = debian_kernel()
    busybox = first_existing("/bin/busybox", "/usr/bin/busybox")
    parts = [os.path.join(modules, path) for path, _ in module_closure(modules, MODULES[kind])]
    programs = [first_existing(p, "/usr" + p) for p in PROGRAMS[kind]]
    libraries = sorted({lib for p in programs for lib in cpio.libraries_of(p)})
    own = [os.path.join(HERE, name) for name in ("cpio.py", "image.py", "init")]

    key = digest(own + [busybox] + programs + libraries + parts, kind)
    path = os.path.join(cache_dir(), f"lab-{kind}-{key}.cpio" + (".gz" if kind == "intel" else ""))
    with built_once(path) as out:
        if out:
            write_base(out, kind, modules, busybox, programs)
    return path


def write_base(out, kind, modules, busybox, programs):
    packed = gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9, mtime=0) \
        if kind == "intel" else out
    archive = cpio.Archive(packed)
    for directory in ("dev", "proc", "sys", "mnt", "lab"):
        archive.directory(directory)
    archive.directory("root", 0o700)
    archive.directory("tmp", 0o1777)
    archive.node("dev/console", 0o600, 5, 1)
    archive.file("init", os.path.join(HERE, "init"))
    archive.data("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    archive.data("etc/group", b"root:x:0:\nkvm:x:104:\nnogroup:x:65534:\n")
    archive.data("etc/hosts", b"127.0.0.1 localhost\n")
    archive.data("etc/profile", b"PS1='lab:\\w# '\n")

    archive.program("bin/busybox", busybox)
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in applets.stdout.split():
        if applet != "busybox":
            archive.symlink(f"bin/{applet}", "busybox")
    for program in programs:
        archive.program("sbin/" + os.path.basename(program), program)
    if "/sbin/mke2fs" in PROGRAMS[kind]:
        archive.symlink("sbin/mkfs.ext4", "mke2fs")
        archive.file("etc/mke2fs.conf", "/etc/mke2fs.conf")

    inside = "lib/modules/" + os.path.basename(modules)
    depends = ""
    for path, needs in module_closure(modules, MODULES[kind]):
        archive.data(f"{inside}/{path.removesuffix('.xz')}", lean_module(os.path.join(modules, path)))
        depends += f"{path.removesuffix('.xz')}: {' '.join(n.removesuffix('.xz') for n in needs)}\n"
    archive.data(f"{inside}/modules.dep", depends.encode())
    archive.close()
    if packed is not out:
        packed.close()


def first_existing(*paths):
    for path in paths:
        if os.path.exists(path):
            return path
    raise LabError(f"{paths[0]} is missing; {PACKAGES}")


def digest(files, *words):
    h = hashlib.sha256()
    for path in files:
        h.update(path.encode() + b"\0")
        with open(path, "rb") as f:
            h.update(f.read())
    for word in words:
        h.update(word.encode() + b"\0")
    return h.hexdigest()[:16]


@contextlib.contextmanager
def built_once(path):
    """Yields a file to fill if `path` has to be made, else None.

    Two that need the same file build it once; one that dies leaves nothing behind that looks done.
    """
    if os.path.exists(path):
        yield None
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    name = os.path.basename(path)
    with open(os.path.join(os.path.dirname(path), "." + name.split("-")[0] + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(path):
            yield None
            return
        begin = time.monotonic()
        print(f"lab: building {name}", file=sys.stderr)
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), prefix=".work-") as out:
            yield out
            out.flush()
            os.chmod(out.name, 0o644)
            os.link(out.name, path)
        print(f"lab: built in {time.monotonic() - begin:.1f} s", file=sys.stderr)
