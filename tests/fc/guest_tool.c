/* guest_tool.c — what busybox lacks in test guests: vsock streams, HTTP with any method and header,
 * and single bytes of physical memory.
 *
 *     guest_tool vsock-echo PORT          echo every connection, several at once
 *     guest_tool vsock-send CID PORT      stdin to the peer, the peer to stdout, until both ended
 *     guest_tool http ADDRESS             a request from stdin to port 80, the answer to stdout
 *     guest_tool http-hold ADDRESS N      N connections; how many were accepted
 *     guest_tool tcp-take ADDRESS PORT    read a stream to its end
 *     guest_tool tcp-give ADDRESS PORT MIB  write one of so many MiB
 *     guest_tool disk DEVICE WRITE BYTES THREADS SECONDS
 *                                         random accesses past the page cache: how many, us for
 * each guest_tool use MIB                  touch so much memory, print a line, wait for stdin's end
 *     guest_tool poke ADDRESS BYTE        store a byte at a physical address
 *     guest_tool cpuid LEAF SUBLEAF       the four registers, in hexadecimal
 */
#define _GNU_SOURCE /* O_DIRECT */
#include <arpa/inet.h>
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int fail(const char *what)
{
    (void)fprintf(stderr, "guest_tool: %s: %s\n", what, strerror(errno));
    return 1;
}

static int write_all(int fd, const char *data, ssize_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, (size_t)len);

        if (n <= 0) {
            return -1;
        }
        data += n;
        len -= n;
    }
    return 0;
}

static int echo(unsigned port)
{
    struct sockaddr_vm addr = {.svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_ANY};
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1024) < 0) {
        return fail("listen");
    }
    (void)signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int peer = accept(fd, NULL, NULL);
        static char data[65536];
        ssize_t n;

        if (peer < 0) {
            return fail("accept");
        }
        if (fork() == 0) {
            while ((n = read(peer, data, sizeof(data))) > 0 && write_all(peer, data, n) == 0) {
            }
            _exit(0);
        }
        (void)close(peer);
    }
}

static int send_stdin(unsigned cid, unsigned port)
{
    struct sockaddr_vm addr = {.svm_family = AF_VSOCK, .svm_port = port, .svm_cid = cid};
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    struct pollfd fds[2] = {{.fd = 0, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    static char data[65536];

    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return fail("connect");
    }
    while (fds[1].fd >= 0 && poll(fds, 2, -1) >= 0) {
        if (fds[0].revents) {
            ssize_t n = read(0, data, sizeof(data));

            if (n <= 0) {
                (void)shutdown(fd, SHUT_WR);
                fds[0].fd = -1;
            } else if (write_all(fd, data, n) < 0) {
                return fail("write");
            }
        }
        if (fds[1].revents) {
            ssize_t n = read(fd, data, sizeof(data));

            if (n < 0) {
                return fail("read");
            }
            if (n == 0) {
                fds[1].fd = -1;
            } else if (write_all(1, data, n) < 0) {
                return fail("stdout");
            }
        }
    }
    return 0;
}

static int dial(const char *address, unsigned port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
        return -1;
    }
    return fd;
}

/* The answer ends as its Content-Length says: the server keeps connections open. */
static int http(const char *address)
{
    static char in[65536], out[1 << 20];
    ssize_t len = 0, got = 0, n;
    const char *body = NULL;
    const char *field;
    int fd = dial(address, 80);

    if (fd < 0) {
        return fail("connect");
    }
    while ((n = read(0, in + len, sizeof(in) - (size_t)len)) > 0) {
        len += n;
    }
    if (write_all(fd, in, len) < 0) {
        return fail("write");
    }
    while ((n = read(fd, out + got, sizeof(out) - 1 - (size_t)got)) > 0) {
        got += n;
        out[got] = 0;
        body = strstr(out, "\r\n\r\n");
        field = strstr(out, "Content-Length: ");
        if (body && (!field || got - (body + 4 - out) >= strtol(field + 16, NULL, 10))) {
            return write_all(1, out, got);
        }
    }
    return fail("answer");
}

static int http_hold(const char *address, unsigned count)
{
    unsigned accepted = 0;

    for (unsigned i = 0; i < count; i++) {
        accepted += dial(address, 80) >= 0;
    }
    (void)printf("%u\n", accepted);
    return 0;
}

static int tcp(const char *address, unsigned port, unsigned long give_mib)
{
    static char data[1 << 20];
    int fd = dial(address, port);
    ssize_t n;

    if (fd < 0) {
        return fail("connect");
    }
    for (unsigned long i = 0; i < give_mib; i++) {
        if (write_all(fd, data, sizeof(data)) < 0) {
            return fail("write");
        }
    }
    (void)(give_mib && shutdown(fd, SHUT_WR));
    while ((n = read(fd, data, sizeof(data))) > 0) {
    }
    return n < 0 ? fail("read") : 0;
}

/* --- a disk --- */

struct disk {
    int fd;
    int is_write;
    size_t bytes;
    uint64_t places;
    double until;
};

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* One thread: one access after the other.  Returns how many, -1 when one failed. */
static void *disk_main(void *arg)
{
    const struct disk *d = arg;
    uint64_t random = (uintptr_t)&d | 1;
    intptr_t count = 0;
    void *data = NULL;

    if (posix_memalign(&data, 4096, d->bytes)) {
        return (void *)(intptr_t)-1;
    }
    memset(data, 'x', d->bytes);
    while (now() < d->until) {
        off_t at;
        ssize_t n;

        random ^= random << 13; /* xorshift64 */
        random ^= random >> 7;
        random ^= random << 17;
        at = (off_t)(random % d->places * d->bytes);
        n = d->is_write ? pwrite(d->fd, data, d->bytes, at) : pread(d->fd, data, d->bytes, at);
        if (n != (ssize_t)d->bytes) {
            return (void *)(intptr_t)-1;
        }
        count++;
    }
    free(data);
    return (void *)count;
}

static int disk(char **argv)
{
    struct disk d = {.is_write = atoi(argv[1]), .bytes = strtoul(argv[2], NULL, 0)};
    unsigned threads = (unsigned)strtoul(argv[3], NULL, 0);
    pthread_t thread[64];
    uint64_t size = 0;
    intptr_t total = 0;
    double start;

    d.fd = open(argv[0], O_RDWR | O_DIRECT | O_CLOEXEC);
    if (d.fd < 0 || ioctl(d.fd, BLKGETSIZE64, &size) < 0 || size < d.bytes || threads > 64) {
        return fail("disk");
    }
    d.places = size / d.bytes;
    start = now();
    d.until = start + atof(argv[4]);
    for (unsigned i = 0; i < threads; i++) {
        if (pthread_create(&thread[i], NULL, disk_main, &d)) {
            return fail("thread");
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        void *count = NULL;

        (void)pthread_join(thread[i], &count);
        if ((intptr_t)count < 0) {
            return fail("disk");
        }
        total += (intptr_t)count;
    }
    (void)printf("%ld %.1f\n", (long)total, (now() - start) * 1e6 * threads / (double)total);
    return 0;
}

static int use(unsigned long mib)
{
    size_t bytes = mib << 20;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char c;

    if (memory == MAP_FAILED) {
        return fail("mmap");
    }
    for (size_t i = 0; i < bytes; i += 4096) {
        memory[i] = (char)(i >> 12 | 1);
    }
    (void)printf("touched\n");
    (void)fflush(stdout);
    while (read(0, &c, 1) > 0) {
    }
    return 0;
}

static int poke(unsigned long long address, unsigned value)
{
    int fd = open("/dev/mem", O_RDWR | O_SYNC);
    unsigned char *page;

    if (fd < 0) {
        return fail("/dev/mem");
    }
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(address & ~4095ull));
    if (page == MAP_FAILED) {
        return fail("mmap");
    }
    *(volatile unsigned char *)(page + (address & 4095)) = (unsigned char)value;
    return 0;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "";

    (void)signal(SIGPIPE, SIG_IGN);
    if (strcmp(verb, "vsock-echo") == 0) {
        return echo((unsigned)strtoul(argv[2], NULL, 0));
    }
    if (strcmp(verb, "vsock-send") == 0 && argc > 3) {
        return send_stdin((unsigned)strtoul(argv[2], NULL, 0), (unsigned)strtoul(argv[3], NULL, 0));
    }
    if (strcmp(verb, "http") == 0) {
        return http(argv[2]);
    }
    if (strcmp(verb, "http-hold") == 0 && argc > 3) {
        return http_hold(argv[2], (unsigned)strtoul(argv[3], NULL, 0));
    }
    if (strcmp(verb, "tcp-take") == 0 && argc > 3) {
        return tcp(argv[2], (unsigned)strtoul(argv[3], NULL, 0), 0);
    }
    if (strcmp(verb, "tcp-give") == 0 && argc > 4) {
        return tcp(argv[2], (unsigned)strtoul(argv[3], NULL, 0), strtoul(argv[4], NULL, 0));
    }
    if (strcmp(verb, "disk") == 0 && argc > 6) {
        return disk(argv + 2);
    }
    if (strcmp(verb, "use") == 0) {
        return use(strtoul(argv[2], NULL, 0));
    }
    if (strcmp(verb, "poke") == 0 && argc > 3) {
        return poke(strtoull(argv[2], NULL, 0), (unsigned)strtoul(argv[3], NULL, 0));
    }
    if (strcmp(verb, "cpuid") == 0 && argc > 3) {
        unsigned r[4];

        __cpuid_count(strtoul(argv[2], NULL, 0), strtoul(argv[3], NULL, 0), r[0], r[1], r[2], r[3]);
        (void)printf("%08x %08x %08x %08x\n", r[0], r[1], r[2], r[3]);
        return 0;
    }
    (void)fprintf(stderr, "guest_tool: what?\n");
    return 2;
}
