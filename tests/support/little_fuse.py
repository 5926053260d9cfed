"""A FUSE server of one empty directory: ``little_fuse.py DIR [ALL]``; stopped (SIGSTOP), it hangs.

It speaks the kernel's protocol itself (linux/fuse.h), so that nothing but /dev/fuse is needed. ``up`` is printed
once it answers. It ends when it is unmounted.
"""

import errno
import os
import stat
import struct
import sys
import time

from donjon import syscalls

GETATTR, STATFS, INIT, OPENDIR, READDIR, RELEASEDIR, ACCESS = 3, 17, 26, 27, 28, 29, 34
IN = struct.Struct("<IIQQIIIHH")
OUT = struct.Struct("<IiQ")
INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
ATTR_OUT = struct.Struct("<QII6Q10I")
STATFS_OUT = struct.Struct("<5Q4I24x")


def attributes():
    now = int(time.time())
    return ATTR_OUT.pack(
        0, 0, 0, 1, 0, 0, now, now, now, 0, 0, 0, stat.S_IFDIR | 0o755, 2, 0, 0, 0, 4096, 0
    )


ANSWERS = {
    INIT: lambda: INIT_OUT.pack(7, 31, 65536, 0, 16, 12, 65536, 1, 16, 0, 0),
    GETATTR: attributes,
    STATFS: lambda: STATFS_OUT.pack(100, 50, 50, 10, 5, 4096, 255, 4096, 0),
    OPENDIR: lambda: struct.pack("<QII", 0, 0, 0),
    READDIR: lambda: b"",
    RELEASEDIR: lambda: b"",
    ACCESS: lambda: b"",
}


def serve(device):
    told = False
    while True:
        try:
            request = os.read(device, 1 << 17)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return
            continue
        _, opcode, unique, *_ = IN.unpack_from(request)
        make = ANSWERS.get(opcode)
        body = make() if make else b""
        if opcode not in (2, 36, 42):  # FORGET, INTERRUPT, BATCH_FORGET want no answer
            number = 0 if make else -errno.ENOSYS
            os.write(device, OUT.pack(OUT.size + len(body), number, unique) + body)
        if not told:
            told = True
            print("up", flush=True)


if __name__ == "__main__":
    number = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={number},rootmode=40000,user_id=0,group_id=0,allow_other"
    syscalls.mount("little", sys.argv[1], "fuse", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
    serve(number)
