/* cpio_test.c — the archive reads back with another reader, and is well formed. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "codec/cpio.h"
#include "tests/lib/test.h"

static void expect(struct archive *a, const char *name, mode_t mode)
{
    struct archive_entry *entry;

    CHECK_INT(archive_read_next_header(a, &entry), ARCHIVE_OK);
    CHECK_STR(archive_entry_pathname(entry), name);
    CHECK_INT(archive_entry_mode(entry), mode);
    if (S_ISREG(mode)) {
        char data[16];

        CHECK_INT(archive_read_data(a, data, sizeof(data)), 5);
        CHECK_MEM(data, "hello", 5);
    } else if (S_ISLNK(mode)) {
        CHECK_STR(archive_entry_symlink(entry), "../init");
    } else if (S_ISCHR(mode)) {
        CHECK_INT(archive_entry_rdevmajor(entry), 5);
        CHECK_INT(archive_entry_rdevminor(entry), 1);
    }
}

TEST(codec, cpio_reads_back)
{
    struct buf out = {0};
    struct cpio cpio;
    struct archive *a = archive_read_new();
    struct archive_entry *entry;

    buf_append(&out, "x", 1); /* not aligned */
    cpio_init(&cpio, &out);
    cpio_dir(&cpio, "dev", 0755);
    cpio_node(&cpio, "dev/console", S_IFCHR | 0600, 5, 1);
    cpio_file(&cpio, "init", 0755, "hello", 5);
    cpio_symlink(&cpio, "sbin", "../init");
    CHECK_INT(cpio_end(&cpio), 0);
    CHECK_INT(out.len % 4, 0);
    CHECK_MEM(out.data + 4, "070701", 6);

    CHECK_INT(archive_read_support_format_cpio(a), ARCHIVE_OK);
    CHECK_INT(archive_read_open_memory(a, out.data + 4, out.len - 4), ARCHIVE_OK);
    expect(a, "dev", S_IFDIR | 0755);
    expect(a, "dev/console", S_IFCHR | 0600);
    expect(a, "init", S_IFREG | 0755);
    expect(a, "sbin", S_IFLNK | 0777);
    CHECK_INT(archive_read_next_header(a, &entry), ARCHIVE_EOF);
    CHECK_INT(archive_read_free(a), ARCHIVE_OK);
    buf_fini(&out);
}

TEST(codec, cpio_refuses_what_it_cannot_hold)
{
    struct buf out = {0};
    struct cpio cpio;

    cpio_init(&cpio, &out);
    cpio_file(&cpio, "/init", 0755, "", 0);
    cpio_dir(&cpio, "ok", 0755);
    CHECK_INT(cpio_end(&cpio), -EINVAL);
    CHECK_INT(out.len, 0);
    cpio_init(&cpio, &out);
    cpio_file(&cpio, "a", 0755, "", (size_t)UINT32_MAX + 1);
    CHECK_INT(cpio_end(&cpio), -EFBIG);
    cpio_init(&cpio, &out);
    cpio_dir(&cpio, "", 0755);
    CHECK_INT(cpio_end(&cpio), -EINVAL);
    buf_fini(&out);
}
