/* tree_list.c — entries of directories, in the host's order and with the host's cookies.
 *
 * getdents64 gives a cookie with each entry that continues after it, stable for as long as the
 * directory is, so any cookie can be continued from at any time: what was read ahead is used if it
 * fits and dropped if the guest went elsewhere.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/tree_int.h"

struct host_dirent {
    uint64_t ino;
    int64_t next;
    uint16_t len;
    uint8_t type;
    char name[];
};

/* Make the listing stand at `cookie`. */
static int seek_to(struct tree_file *file, uint64_t cookie)
{
    struct tree_listing *listing = file->listing;

    if (cookie > INT64_MAX) {
        return -EINVAL; /* guest: any cookie */
    }
    if (!listing) {
        listing = calloc(1, sizeof(*listing));
        if (!listing) {
            return -ENOMEM;
        }
        file->listing = listing;
        listing->cookie = UINT64_MAX; /* no cookie */
    }
    if (listing->cookie == cookie && cookie != 0) {
        return 0;
    }
    if (lseek(file->fd, (off_t)cookie, SEEK_SET) < 0) {
        return -EINVAL;
    }
    listing->cookie = cookie;
    listing->at = 0;
    listing->len = 0;
    return 0;
}

/* 1: there is an entry at data[at]; 0: the end. */
static int fill(struct tree_file *file)
{
    struct tree_listing *listing = file->listing;
    ssize_t n;

    if (listing->at < listing->len) {
        return 1;
    }
    n = getdents64(file->fd, listing->data, sizeof(listing->data));
    if (n < 0) {
        return -errno;
    }
    listing->at = 0;
    listing->len = (size_t)n;
    return n > 0;
}

static bool is_dots(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* Is the name one to be shown, in a tree of one file? */
static bool is_shown(const struct tree *tree, const struct tree_node *node, const char *name)
{
    return !tree->only || node != tree->root || is_dots(name) || strcmp(name, tree->only) == 0;
}

static bool give(const struct tree *tree, const struct tree_node *node,
                 const struct host_dirent *entry, tree_dirent_fn fn, void *owner)
{
    struct tree_dirent out = {
        .name = entry->name,
        .name_len = (uint32_t)strlen(entry->name),
        .type = entry->type,
        .ino = entry->ino,
        .next = (uint64_t)entry->next,
    };

    if (node == tree->root && strcmp(entry->name, "..") == 0) {
        out.ino = node->ino; /* what is above is nobody's business */
    }
    return fn(owner, &out);
}

static int list(struct tree *tree, struct tree_file *file, uint64_t cookie, tree_dirent_fn fn,
                void *owner)
{
    struct tree_listing *listing;
    int r = seek_to(file, cookie);

    if (r < 0) {
        return r;
    }
    listing = file->listing;
    for (;;) {
        const struct host_dirent *entry;

        r = fill(file);
        if (r <= 0) {
            return r;
        }
        entry = (const void *)(listing->data + listing->at);
        if (is_shown(tree, file->node, entry->name) && !give(tree, file->node, entry, fn, owner)) {
            return 0;
        }
        listing->at += entry->len;
        listing->cookie = (uint64_t)entry->next;
    }
}

/* A directory that is shown empty. */
static int list_dots(const struct tree_node *node, uint64_t cookie, tree_dirent_fn fn, void *owner)
{
    static const char *const names[] = {".", ".."};

    for (; cookie < ARRAY_LEN(names); cookie++) {
        struct tree_dirent out = {
            .name = names[cookie],
            .name_len = (uint32_t)cookie + 1,
            .type = DT_DIR,
            .ino = node->ino,
            .next = cookie + 1,
        };

        if (!fn(owner, &out)) {
            break;
        }
    }
    return 0;
}

int tree_read_dir(void *t, uint64_t node_id, uint64_t file_id, uint64_t cookie, tree_dirent_fn fn,
                  void *owner)
{
    struct tree *tree = t;
    struct tree_node *node = tree_node_get(tree, node_id);
    struct tree_file *file;
    int r;

    if (!node || !S_ISDIR(node->type)) {
        return node ? -ENOTDIR : -ESTALE;
    }
    if (node->is_hidden || node->is_unlisted) {
        return list_dots(node, cookie, fn, owner);
    }
    r = tree_file_get(tree, node_id, file_id, &file);
    if (r < 0) {
        return r;
    }
    node->busy++; /* fn may look names up, which may close cached descriptors */
    r = list(tree, file, cookie, fn, owner);
    tree_node_drop(tree, node);
    return r;
}
