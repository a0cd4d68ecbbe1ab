/* uffd.h — guest memory that another process brings in, page by page, on first use (userfaultfd).
 *
 * The other process listens on a Unix socket.  It is sent one message: the userfaultfd as ancillary
 * data, and a JSON array that says which addresses of ours are which bytes of the snapshot's memory
 * file.  Nothing is read back.  The connection stays open as long as the memory is used: by it the
 * other process can find out who we are, and that we have ended.  When it ends, whoever touches a
 * page that is not there yet waits for ever.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct uffd_range {
    void *host;      /* anonymous private memory, never touched */
    uint64_t len;    /* bytes */
    uint64_t offset; /* in the memory file */
};

struct uffd;

/* `has_big_pages`: of 2 MiB, from hugetlbfs. */
int uffd_open(const struct uffd_range *ranges, unsigned count, bool has_big_pages, const char *path,
              struct uffd **ret_uffd, struct err *err);
void uffd_close(struct uffd *uffd);
