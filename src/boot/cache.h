/* cache.h — unpacked kernels, kept in files named by the content they were unpacked from.
 *
 * A file is the ELF and a footer; it is written under another name and renamed, so readers see all
 * of it or nothing.  Everything here is best effort: a miss costs time, nothing else.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct cache_key {
    uint64_t part[2];
};

/* Names content for the user's own cache; it does not withstand somebody who makes collisions. */
struct cache_key cache_key(const void *data, size_t len);
/* The same of a part of a file, without reading it into fresh memory. */
int cache_key_of_file(int fd, uint64_t offset, uint64_t len, struct cache_key *ret_key);

/* The file of `key`, opened for reading, and how many bytes of it are the ELF; -ENOENT or another
 * negative errno if there is no valid one that belongs to this user. */
int cache_open(const char *dir, const struct cache_key *key, uint64_t *ret_len);

/* Keep `data` for `key`.  Makes `dir` if it is missing. */
int cache_store(const char *dir, const struct cache_key *key, const void *data, size_t len);
