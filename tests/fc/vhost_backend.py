"""A vhost-user block device in Python: as much of one as a test needs that wants to resize it."""

import array
import mmap
import os
import select
import socket
import struct
import threading

SECTOR = 512
PROTOCOL_FEATURES, VERSION_1, CONFIG = 1 << 30, 1 << 32, 1 << 9


class Backend(threading.Thread):
    """Serves `data` (bytes) at `path` to one front end.  `data` may be replaced: its size is asked for again."""

    def __init__(self, path, data):
        super().__init__(daemon=True)
        self.data = bytearray(data)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.regions = []  # (address, length, mapping, offset)
        self.ring, self.kick, self.call, self.seen = {}, None, None, 0
        self.seen_requests = []
        self.start()

    def run(self):
        peer, _ = self.listener.accept()
        while True:
            wait = [peer] + ([self.kick] if self.kick is not None else [])
            for ready in select.select(wait, [], [])[0]:
                if ready is peer:
                    if not self.message(peer):
                        return
                else:
                    os.read(self.kick, 8)
                    self.serve()

    # --- messages ---

    def message(self, peer):
        fds = array.array("i")
        head, control, _, _ = peer.recvmsg(12, socket.CMSG_SPACE(8 * 4))
        for _, _, data in control:
            fds.frombytes(data[: len(data) - len(data) % 4])
        if len(head) < 12:
            return False
        request, _, size = struct.unpack("<III", head)
        body = peer.recv(size, socket.MSG_WAITALL) if size else b""
        self.seen_requests.append(request)
        answer = self.handle(request, body, list(fds))
        if answer is not None:
            peer.sendall(struct.pack("<III", request, 5, len(answer)) + answer)
        return True

    def handle(self, request, body, fds):
        if request == 1:
            return struct.pack("<Q", PROTOCOL_FEATURES | VERSION_1)
        if request == 15:
            return struct.pack("<Q", CONFIG)
        if request == 24:
            config = struct.pack("<Q", len(self.data) // SECTOR) + bytes(52)
            return body[:12] + config[: struct.unpack_from("<I", body, 4)[0]]
        if request == 11:
            self.kick = None
            return struct.pack("<II", 0, self.seen)
        if request == 5:
            self.map(body, fds)
        elif request == 8:
            self.ring["size"] = struct.unpack_from("<I", body, 4)[0]
        elif request == 9:
            self.ring["desc"], self.ring["used"], self.ring["avail"] = struct.unpack_from("<QQQ", body, 8)
        elif request == 10:
            self.seen = struct.unpack_from("<I", body, 4)[0]
        elif request == 13:
            self.call = fds[0]
        elif request == 12:
            self.kick = fds[0]
        return None

    def map(self, body, fds):
        for i in range(struct.unpack_from("<I", body)[0]):
            _, size, address, offset = struct.unpack_from("<QQQQ", body, 8 + 32 * i)
            self.regions.append((address, size, mmap.mmap(fds[i], offset + size), offset))

    # --- the ring ---

    def at(self, address):
        """The mapping that holds an address, and where in it."""
        for start, size, mapping, offset in reversed(self.regions):
            if start <= address < start + size:
                return mapping, address - start + offset
        raise LookupError(hex(address))

    def get(self, address, form):
        return struct.unpack_from(form, *self.at(address))

    def put(self, address, data):
        mapping, offset = self.at(address)
        mapping[offset : offset + len(data)] = data

    def serve(self):
        size = self.ring["size"]
        while self.get(self.ring["avail"] + 2, "<H")[0] != self.seen % 65536:
            first = self.get(self.ring["avail"] + 4 + 2 * (self.seen % size), "<H")[0]
            self.request(first)
            self.put(self.ring["used"] + 4 + 8 * (self.seen % size), struct.pack("<II", first, 1))
            self.seen += 1
            self.put(self.ring["used"] + 2, struct.pack("<H", self.seen % 65536))
        os.write(self.call, struct.pack("<Q", 1))

    def request(self, index):
        parts = []
        while True:
            address, length, flags, following = self.get(self.ring["desc"] + 16 * index, "<QIHH")
            parts.append((address, length))
            if not flags & 1:
                break
            index = following
        kind, _, sector = self.get(parts[0][0], "<IIQ")
        place = sector * SECTOR
        for address, length in parts[1:-1]:
            if kind == 0:
                self.put(address, bytes(self.data[place : place + length]).ljust(length, b"\0"))
            elif kind == 1:
                mapping, offset = self.at(address)
                self.data[place : place + length] = mapping[offset : offset + length]
            place += length
        self.put(parts[-1][0], b"\0")
