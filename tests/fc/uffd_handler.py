"""A page fault handler: brings the pages of a memory file into whatever memory it is handed.

    uffd_handler.py SOCKET MEMORY-FILE

It takes one connection, receives the userfaultfd and the layout, and serves until the other side has ended. Pages that
the guest gave back (UFFD_EVENT_REMOVE) are zero from then on.
"""

import array
import ctypes
import fcntl
import json
import mmap
import os
import select
import socket
import struct
import sys

# linux/userfaultfd.h
EVENT_PAGEFAULT, EVENT_REMOVE = 0x12, 0x15
UFFDIO_COPY = 0xC028AA03
MSG_BYTES = 32

ZEROS = ctypes.create_string_buffer(2 << 20)


def receive(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    print("listening", flush=True)
    peer, _ = server.accept()
    fds = array.array("i")
    data, ancillary, _, _ = peer.recvmsg(65536, socket.CMSG_LEN(4))
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[:4])
    regions = json.loads(data)
    for region in regions:
        assert set(region) == {"base_host_virt_addr", "size", "offset", "page_size", "page_size_kib"}, region
        assert region["page_size"] == region["page_size_kib"] and region["page_size"] in (4096, 2 << 20), region
    return peer, fds[0], regions


def serve(peer, uffd, regions, memory):
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    removed = []
    poll = select.poll()
    poll.register(uffd, select.POLLIN)
    poll.register(peer, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == peer.fileno():
                return  # nothing is ever sent: it has ended
            try:
                message = os.read(uffd, MSG_BYTES)
            except BlockingIOError:
                continue
            event = message[0]
            if event == EVENT_REMOVE:
                removed.append(struct.unpack_from("<QQ", message, 8))
            elif event == EVENT_PAGEFAULT:
                bring(uffd, regions, base, removed, struct.unpack_from("<Q", message, 16)[0])


def bring(uffd, regions, base, removed, address):
    region = next(r for r in regions if r["base_host_virt_addr"] <= address < r["base_host_virt_addr"] + r["size"])
    size = region["page_size"]
    address &= ~(size - 1)
    try:
        source = base + region["offset"] + address - region["base_host_virt_addr"]
        if any(start <= address < end for start, end in removed):
            source = ctypes.addressof(ZEROS)
        fcntl.ioctl(uffd, UFFDIO_COPY, bytearray(struct.pack("<QQQQq", address, source, size, 0, 0)))
    except FileExistsError:
        pass  # another fault of the same page


def main():
    peer, uffd, regions = receive(sys.argv[1])
    with open(sys.argv[2], "rb") as file:
        memory = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    serve(peer, uffd, regions, memory)


if __name__ == "__main__":
    main()
