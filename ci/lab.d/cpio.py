# SPDX-License-Identifier: Apache-2.0
"""Writes initramfs archives ("newc" cpio), and finds what a program needs to run in one.

The kernel accepts several archives one after another, later ones adding to earlier ones. So a lab
boots from one big archive made once and a small one made for each run.
"""

import os
import stat
import subprocess

ELF_MAGIC = b"\x7fELF"


class Archive:
    """An archive being written to `out`, a binary file. Parents of a path are added by themselves."""

    def __init__(self, out):
        self.out = out
        self.inode = 0
        self.seen = set()

    def directory(self, path, mode=0o755):
        path = path.strip("/")
        if path and path not in self.seen:
            self._entry(path, stat.S_IFDIR | mode)

    def symlink(self, path, target):
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def data(self, path, content, mode=0o644):
        self._entry(path, stat.S_IFREG | mode, content)

    def node(self, path, mode, major, minor):
        self._entry(path, stat.S_IFCHR | mode, device=(major, minor))

    def file(self, path, source):
        """Copies the file `source`, following symbolic links."""
        with open(source, "rb") as f:
            self.data(path, f.read(), os.stat(source).st_mode & 0o7777)

    def tree(self, path, source):
        """Copies the directory `source` and all below it, keeping symbolic links as they are."""
        self.directory(path)
        with os.scandir(source) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                inside = f"{path}/{entry.name}"
                if entry.is_symlink():
                    self.symlink(inside, os.readlink(entry.path))
                elif entry.is_dir():
                    self.tree(inside, entry.path)
                elif entry.is_file():
                    self.file(inside, entry.path)

    def program(self, path, source):
        """Copies `source` and, if it is linked dynamically, the libraries it loads."""
        self.file(path, source)
        self.libraries(source)

    def libraries(self, source):
        for library in libraries_of(source):
            if library.strip("/") not in self.seen:
                self.file(library, library)

    def close(self):
        self._entry("TRAILER!!!", 0)
        self.out.write(b"\0" * (-self.out.tell() % 512))

    def _entry(self, path, mode, content=b"", device=(0, 0)):
        path = path.strip("/")
        parent = os.path.dirname(path)
        if parent:
            self.directory(parent)
        self.seen.add(path)
        self.inode += 1
        name = path.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
        self._write(b"070701" + b"".join(b"%08X" % f for f in fields) + name)
        self._write(content)

    def _write(self, data):
        self.out.write(data)
        self.out.write(b"\0" * (-len(data) % 4))


def is_elf(path):
    with open(path, "rb") as f:
        return f.read(4) == ELF_MAGIC


def libraries_of(program):
    """The shared libraries `program` loads, and its loader; none for a static program or a script.

    A symbolic link is followed when it is copied, so each library is found under the name the
    loader looks for.
    """
    if not is_elf(program):
        return []
    listing = subprocess.run(["ldd", program], capture_output=True, text=True)
    if listing.returncode != 0:  # "not a dynamic executable"
        return []
    found = []
    for line in listing.stdout.splitlines():
        words = line.split()
        if "=>" in words:
            target = words[words.index("=>") + 1]
            if target == "not":
                raise FileNotFoundError(f"{program} needs {words[0]}, which ldd does not find")
            found.append(target)
        elif words and words[0].startswith("/"):
            found.append(words[0])
    return found
