#!/usr/bin/env python3
"""newc.py OUTPUT: a cpio archive of the tree described on standard input, lines of

    dir PATH | file PATH MODE SOURCE | link PATH TARGET | char PATH MAJOR MINOR

cpio(1) would need root for the device nodes and would write inode numbers and times, so that PCR 9 and 11 would
change with every image."""
import sys

out = bytearray()
inode = 0


def entry(path, mode, data=b"", major=0, minor=0):
    global inode
    inode += 1
    name = path.encode() + b"\0"
    fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name), 0]
    out.extend(b"070701" + b"".join(b"%08X" % f for f in fields) + name)
    out.extend(bytes(-len(out) % 4))
    out.extend(data)
    out.extend(bytes(-len(out) % 4))


for line in sys.stdin:
    kind, path, *rest = line.split()
    if kind == "dir":
        entry(path, 0o040755)
    elif kind == "file":
        entry(path, 0o100000 | int(rest[0], 8), open(rest[1], "rb").read())
    elif kind == "link":
        entry(path, 0o120777, rest[0].encode())
    elif kind == "char":
        entry(path, 0o020600, b"", int(rest[0]), int(rest[1]))
    else:
        sys.exit("unknown entry " + line)
inode = -1
entry("TRAILER!!!", 0)
open(sys.argv[1], "wb").write(out)
