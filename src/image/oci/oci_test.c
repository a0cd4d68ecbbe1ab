/* oci_test.c — images from folders made here: names, layers on layers, hostile ones, and a cache
 * that repairs itself. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "image/oci/auth.h"
#include "image/oci/digest.h"
#include "image/oci/manifest.h"
#include "image/oci/oci.h"
#include "image/oci/ref.h"
#include "image/oci/tree.h"
#include "image/oci/unpack.h"
#include "tests/lib/test.h"

/* --- names --- */

TEST(oci, references_are_taken_apart)
{
    static const struct {
        const char *text, *host, *name, *tag, *digest, *again;
    } rows[] = {
        {"reg.example/a/b", "reg.example", "a/b", "latest", NULL, "reg.example/a/b:latest"},
        {"localhost:5000/k:6.1", "localhost:5000", "k", "6.1", NULL, "localhost:5000/k:6.1"},
        {"http://h:1/k", "h:1", "k", "latest", NULL, "http://h:1/k:latest"},
        {"https://h.x/k", "h.x", "k", "latest", NULL, "h.x/k:latest"},
        {"h.x/k:t@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "h.x",
         "k", "t", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
         "h.x/k@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    };
    struct oci_ref ref;
    struct err err = {0};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_FREE char *again = NULL;

        CHECK(oci_ref_is(rows[i].text));
        CHECK_OK(oci_ref_parse(rows[i].text, &ref, &err), &err);
        CHECK_STR(ref.host, rows[i].host);
        CHECK_STR(ref.name, rows[i].name);
        CHECK_STR(ref.tag, rows[i].tag);
        CHECK(rows[i].digest ? strcmp(ref.digest, rows[i].digest) == 0 : !ref.digest);
        again = oci_ref_text(&ref);
        CHECK_STR(again, rows[i].again);
        oci_ref_fini(&ref);
    }
    CHECK_OK(oci_ref_parse(rows[4].text, &ref, &err), &err);
    CHECK_OK(oci_ref_set_tag(&ref, "v2", &err), &err);
    CHECK_STR(ref.tag, "v2");
    CHECK(!ref.digest);
    CHECK_INT(oci_ref_set_tag(&ref, "-v2", &err), -EINVAL);
    oci_ref_fini(&ref);
}

TEST(oci, what_is_no_reference_is_refused)
{
    static const char *const rows[] = {
        "h.x/",
        "h.x/UP",
        "h.x/a/../b",
        "h.x/a//b",
        "h.x/a:",
        "h.x/a:-t",
        "h.x/a@md5:",
        "h.x/.a",
        "name",
        "library/name",
        "h.x/a b",
        "h x.y/a",
        "h.x/a@sha256:12",
        "oci:/no/such/folder",
        "docker-archive:/no/such",
        "h.x/a/",
        "",
    };
    struct oci_ref ref;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err = {0};

        CHECK(oci_ref_parse(rows[i], &ref, &err) < 0);
        CHECK_HAS(err.text, rows[i]);
    }
    CHECK(!oci_ref_is("./h.x/a"));
    CHECK(!oci_ref_is("/h.x/a"));
    CHECK(!oci_ref_is("a/b"));
    CHECK(!oci_ref_is("vmlinuz.gz"));
}

/* --- manifests --- */

#define HEX64      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define BLOB(size) "{\"digest\":\"sha256:" HEX64 "\",\"size\":" size "}"

TEST(oci, the_platform_is_chosen_from_an_index)
{
    static const char index[] =
        "{\"manifests\":["
        "{\"digest\":\"sha256:" HEX64 "\",\"size\":1,\"platform\":{\"os\":\"linux\","
        "\"architecture\":\"arm64\"}},"
        "{\"digest\":\"sha256:f" HEX64 "\",\"size\":2}]}";
    static const char good[] =
        "{\"manifests\":[{\"digest\":\"sha256:" HEX64 "\",\"size\":7,\"platform\":"
        "{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}";
    struct oci_blob blob;
    struct err err = {0};

    CHECK_INT(oci_index_choose(index, strlen(index), &blob, &err), -ENOENT);
    CHECK_STR(err.text, "it is not for linux/amd64: only linux/arm64");
    CHECK_INT(oci_index_choose(good, strlen(good), &blob, &err), 1);
    CHECK_INT(blob.size, 7);
    CHECK_INT(oci_index_choose("{}", 2, &blob, &err), 0);
    CHECK_INT(oci_index_choose("[]", 2, &blob, &err), -EBADMSG);
    CHECK_INT(oci_index_choose("{", 1, &blob, &err), -EBADMSG);
}

static int config_check(const char *text, struct err *err)
{
    return oci_config_check(text, strlen(text), err);
}

TEST(oci, manifests_are_checked)
{
    static const char good[] =
        "{\"config\":" BLOB("3") ",\"layers\":[" BLOB("4") "," BLOB("5") "]}";
    static const char *const bad[] = {
        "{}",
        "{\"config\":" BLOB("-1") ",\"layers\":[]}",
        "{\"config\":" BLOB("\"1\"") ",\"layers\":[]}",
        "{\"config\":" BLOB("1") ",\"layers\":{}}",
        "{\"config\":" BLOB("1") ",\"layers\":[{\"digest\":\"sha256:../../x\",\"size\":1}]}",
    };
    struct oci_manifest manifest;
    struct err err = {0};

    CHECK_OK(oci_manifest_parse(good, strlen(good), &manifest, &err), &err);
    CHECK_INT(manifest.layer_count, 2);
    CHECK_INT(manifest.layers[1].size, 5);
    oci_manifest_fini(&manifest);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK_INT(oci_manifest_parse(bad[i], strlen(bad[i]), &manifest, &err), -EBADMSG);
    }
    CHECK_INT(config_check("{\"os\":\"linux\",\"architecture\":\"amd64\"}", &err), 0);
    CHECK_INT(config_check("{}", &err), 0);
    CHECK_INT(config_check("{\"os\":\"linux\",\"architecture\":\"arm64\"}", &err), -ENOEXEC);
    CHECK_STR(err.text, "it is for linux/arm64: must be for linux/amd64");
}

/* --- layers --- */

struct item {
    const char *path;
    mode_t type;      /* 0: a file */
    const char *text; /* content, or where a link goes */
};

#define HARD 1 /* no file type: a hard link */

static int tar_of(const struct item *items, size_t count, const char *path, int filter)
{
    struct archive *tar = archive_write_new();
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    CHECK(fd >= 0);
    CHECK_INT(archive_write_set_format_pax_restricted(tar), 0);
    CHECK_INT(archive_write_add_filter(tar, filter), 0);
    CHECK_INT(archive_write_open_fd(tar, fd), 0);
    for (size_t i = 0; i < count; i++) {
        struct archive_entry *entry = archive_entry_new();
        bool is_file = items[i].type == 0;

        archive_entry_set_pathname(entry, items[i].path);
        archive_entry_set_perm(entry, 04644);
        archive_entry_set_filetype(entry,
                                   is_file || items[i].type == HARD ? AE_IFREG : items[i].type);
        if (items[i].type == HARD) {
            archive_entry_set_hardlink(entry, items[i].text);
        } else if (items[i].type == AE_IFLNK) {
            archive_entry_set_symlink(entry, items[i].text);
        } else if (is_file) {
            archive_entry_set_size(entry, (la_int64_t)strlen(items[i].text));
        }
        CHECK_INT(archive_write_header(tar, entry), 0);
        if (is_file) {
            CHECK(archive_write_data(tar, items[i].text, strlen(items[i].text)) >= 0);
        }
        archive_entry_free(entry);
    }
    CHECK_INT(archive_write_close(tar), 0);
    archive_write_free(tar);
    return fd;
}

struct rig {
    char dir[32];
    int dir_fd;
    int root_fd;
    uint64_t budget;
};

static void rig_init(struct rig *g)
{
    strcpy(g->dir, "/tmp/oci-test-XXXXXX");
    CHECK(mkdtemp(g->dir) != NULL);
    g->dir_fd = open(g->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(mkdirat(g->dir_fd, "root", 0700), 0);
    g->root_fd = openat(g->dir_fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g->budget = 1000;
}

static void rig_fini(struct rig *g)
{
    (void)close(g->root_fd);
    (void)close(g->dir_fd);
    oci_tree_remove(AT_FDCWD, g->dir);
    CHECK(access(g->dir, F_OK) < 0);
}

static int apply(struct rig *g, const struct item *items, size_t count, struct err *err)
{
    char path[64];
    int fd;
    int r;

    (void)snprintf(path, sizeof(path), "%s/layer", g->dir);
    fd = tar_of(items, count, path, ARCHIVE_FILTER_GZIP);
    r = oci_unpack_layer(fd, g->root_fd, &g->budget, err);
    (void)close(fd);
    return r;
}

#define APPLY(g, err, ...)                       \
    apply(g, (const struct item[]){__VA_ARGS__}, \
          sizeof((const struct item[]){__VA_ARGS__}) / sizeof(struct item), err)

/* What is in a file below the root; "" if it is not there. */
static const char *text_of(const struct rig *g, const char *path)
{
    static char text[64];
    int fd = openat(g->root_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

    text[n > 0 ? n : 0] = 0;
    (void)close(fd);
    return text;
}

TEST(oci, a_layer_lies_on_those_below_it)
{
    struct rig g;
    struct err err = {0};
    struct stat st;

    rig_init(&g);
    CHECK_OK(APPLY(&g, &err, {"usr/lib/a", 0, "1"}, {"lib", AE_IFLNK, "usr/lib"},
                   {"etc/", AE_IFDIR, NULL}, {"etc/x", 0, "x"}, {"etc/y", 0, "y"},
                   {"gone/deep/z", 0, "z"}, {"boot/vmlinuz", 0, "old"}),
             &err);
    CHECK_OK(APPLY(&g, &err, {"./lib/", AE_IFDIR, NULL}, {"lib/b", 0, "2"}, {"etc/new", 0, "new"},
                   {"etc/.wh..wh..opq", 0, ""}, {".wh.gone", 0, ""}, {"boot//vmlinuz", 0, "new"},
                   {"boot/hard", HARD, "boot/vmlinuz"}, {"dev/null", AE_IFCHR, NULL},
                   {"a/.wh.b", 0, ""}),
             &err);
    CHECK_STR(text_of(&g, "usr/lib/a"), "1");
    CHECK_STR(text_of(&g, "usr/lib/b"), "2"); /* by way of the link of the layer below */
    CHECK_STR(text_of(&g, "etc/x"), "");
    CHECK_STR(text_of(&g, "etc/new"), "new"); /* it came before the whiteout, in the same layer */
    CHECK_STR(text_of(&g, "boot/vmlinuz"), "new");
    CHECK_STR(text_of(&g, "boot/hard"), "new");
    CHECK_INT(fstatat(g.root_fd, "gone", &st, 0), -1);
    CHECK_INT(fstatat(g.root_fd, "dev/null", &st, 0), -1);
    CHECK_INT(fstatat(g.root_fd, "boot/vmlinuz", &st, 0), 0);
    CHECK_INT(st.st_mode & 07777, 0644); /* no set-id bits */
    rig_fini(&g);
}

TEST(oci, nothing_outside_of_the_tree_is_touched)
{
    struct rig g;
    struct err err = {0};
    char victim[64];
    char up[80];

    rig_init(&g);
    (void)snprintf(victim, sizeof(victim), "%s/victim", g.dir);
    (void)close(open(victim, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    CHECK_INT(APPLY(&g, &err, {"../victim", 0, "no"}), -EINVAL);
    CHECK_HAS(err.text, "'../victim': must stay in the image");
    CHECK_INT(APPLY(&g, &err, {"a/../../victim", 0, "no"}), -EINVAL);
    CHECK_INT(APPLY(&g, &err, {"../.wh.victim", 0, ""}), -EINVAL);
    /* absolute names, and links that leave: all of it stays below the root */
    CHECK_OK(APPLY(&g, &err, {victim, 0, "no"}), &err);
    (void)snprintf(up, sizeof(up), "../../../../../..%s", g.dir);
    CHECK_OK(
        APPLY(&g, &err, {"out", AE_IFLNK, g.dir}, {"up", AE_IFLNK, up}, {"file", AE_IFLNK, victim}),
        &err);
    (void)APPLY(&g, &err, {"out/victim", 0, "no"});
    (void)APPLY(&g, &err, {"up/victim", 0, "no"});
    (void)APPLY(&g, &err, {"out/.wh.victim", 0, ""}, {"up/.wh.victim", 0, ""});
    (void)APPLY(&g, &err, {"file", 0, "no"}, {"hard", HARD, "out/victim"});
    CHECK_INT(APPLY(&g, &err, {"hard", HARD, "../victim"}), -EINVAL);
    CHECK_INT(access(victim, F_OK), 0);
    CHECK_INT(open(victim, O_RDONLY | O_CLOEXEC) < 0, 0);
    {
        struct stat st;

        CHECK_INT(stat(victim, &st), 0);
        CHECK_INT(st.st_size, 0);
        CHECK_INT(st.st_nlink, 1);
    }
    CHECK_STR(text_of(&g, "file"), "no"); /* the link was replaced, not written through */
    rig_fini(&g);
}

TEST(oci, a_layer_that_is_too_large_or_torn_is_refused)
{
    struct rig g;
    struct err err = {0};
    char path[64];
    int fd;

    rig_init(&g);
    g.budget = 3;
    CHECK_INT(APPLY(&g, &err, {"a", 0, "12"}, {"b", 0, "34"}), -EFBIG);
    (void)snprintf(path, sizeof(path), "%s/layer", g.dir);
    fd = tar_of((const struct item[]){{"a", 0, "12"}}, 1, path, ARCHIVE_FILTER_GZIP);
    CHECK_INT(ftruncate(fd, 30), 0);
    g.budget = 100;
    CHECK_INT(oci_unpack_layer(fd, g.root_fd, &g.budget, &err), -EBADMSG);
    (void)close(fd);
    rig_fini(&g);
}

/* --- the cache, from an image layout --- */

static void put_bytes(int dir_fd, const char *path, const char *text, size_t len)
{
    int fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    CHECK(fd >= 0);
    CHECK_INT(write(fd, text, len), len);
    (void)close(fd);
}

static void put_text(int dir_fd, const char *path, const char *text)
{
    put_bytes(dir_fd, path, text, strlen(text));
}

/* Store a blob; its digest. */
static void put_blob(struct rig *g, const char *text, size_t len, char digest[static DIGEST_SIZE])
{
    char path[128];

    CHECK_INT(digest_of(text, len, digest), 0);
    (void)snprintf(path, sizeof(path), "layout/blobs/sha256/%s", digest_hex(digest));
    put_bytes(g->dir_fd, path, text, len);
}

/* One image with one layer, tagged "t". */
static void make_layout(struct rig *g, const char *config)
{
    static const struct item items[] = {{"boot/vmlinuz", 0, "kernel"}, {"lib", AE_IFLNK, "usr"}};
    char layer[DIGEST_SIZE], config_digest[DIGEST_SIZE], manifest[DIGEST_SIZE];
    AUTO_CALL(buf_fini) struct buf text = {0};
    AUTO_CALL(buf_fini) struct buf bytes = {0};
    char path[64];

    CHECK_INT(mkdirat(g->dir_fd, "cache", 0700), 0);
    CHECK_INT(mkdirat(g->dir_fd, "layout", 0700), 0);
    CHECK_INT(mkdirat(g->dir_fd, "layout/blobs", 0700), 0);
    CHECK_INT(mkdirat(g->dir_fd, "layout/blobs/sha256", 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/layer", g->dir);
    (void)close(tar_of(items, ARRAY_LEN(items), path, ARCHIVE_FILTER_ZSTD));
    CHECK_INT(buf_read_file(&bytes, path, 1 << 20), 0);
    put_blob(g, (const char *)bytes.data, bytes.len, layer);
    put_blob(g, config, strlen(config), config_digest);
    buf_printf(&text,
               "{\"config\":{\"digest\":\"%s\",\"size\":%zu},\"layers\":[{\"digest\":\"%s\","
               "\"size\":%zu}]}",
               config_digest, strlen(config), layer, bytes.len);
    put_blob(g, buf_str(&text), text.len, manifest);
    buf_clear(&bytes);
    buf_printf(&bytes,
               "{\"manifests\":[{\"digest\":\"%s\",\"size\":%zu,\"annotations\":"
               "{\"org.opencontainers.image.ref.name\":\"t\"}}]}",
               manifest, text.len);
    put_text(g->dir_fd, "layout/index.json", buf_str(&bytes));
}

static int get(struct rig *g, const char *tag, struct oci_tree *tree, struct err *err)
{
    struct oci_ref ref;
    char text[128];
    char cache[64];
    int r;

    (void)snprintf(text, sizeof(text), "oci:%s/layout%s", g->dir, tag);
    (void)snprintf(cache, sizeof(cache), "%s/cache", g->dir);
    CHECK_OK(oci_ref_parse(text, &ref, err), err);
    r = oci_get(cache, &ref, NULL, tree, err);
    oci_ref_fini(&ref);
    return r;
}

static int count(const struct rig *g, const char *folder)
{
    char command[256];
    FILE *pipe;
    int n = -1;

    (void)snprintf(command, sizeof(command), "ls -A %s/cache/images/%s | wc -l", g->dir, folder);
    pipe = popen(command, "re");
    CHECK_INT(fscanf(pipe, "%d", &n), 1);
    (void)pclose(pipe);
    return n;
}

TEST(oci, an_image_is_unpacked_once_and_repaired_when_it_is_not_whole)
{
    static const char config[] = "{\"os\":\"linux\",\"architecture\":\"amd64\"}";
    struct oci_tree tree;
    struct oci_tree again;
    struct err err = {0};
    struct rig g;
    char path[512];
    char cache[64];
    struct stat first;
    struct stat st;
    unsigned busy = 0;

    rig_init(&g);
    make_layout(&g, config);
    (void)snprintf(cache, sizeof(cache), "%s/cache", g.dir);
    CHECK_OK(get(&g, ":t", &tree, &err), &err);
    (void)snprintf(path, sizeof(path), "%s/boot/vmlinuz", tree.path);
    CHECK_INT(stat(path, &first), 0);
    CHECK_INT(count(&g, "parts"), 0);
    CHECK_OK(get(&g, "", &again, &err), &err); /* the only one needs no tag */
    CHECK_STR(again.path, tree.path);
    CHECK_INT(stat(path, &st), 0);
    CHECK(st.st_ino == first.st_ino);
    CHECK_INT(oci_flush(cache, &busy, &err), 0);
    CHECK_INT(busy, 1);
    oci_tree_fini(&again);
    oci_tree_fini(&tree);

    put_text(AT_FDCWD, path, "hacked"); /* the same length, another time */
    CHECK_OK(get(&g, ":t", &tree, &err), &err);
    CHECK_INT(stat(path, &st), 0);
    CHECK(st.st_ino != first.st_ino);
    oci_tree_fini(&tree);
    CHECK_INT(unlink(path), 0);
    CHECK_OK(get(&g, ":t", &tree, &err), &err);
    CHECK_INT(stat(path, &st), 0);
    oci_tree_fini(&tree);

    CHECK_INT(oci_flush(cache, &busy, &err), 0);
    CHECK_INT(busy, 0);
    CHECK_INT(count(&g, "trees"), 0);
    CHECK_INT(count(&g, "refs"), 0);
    rig_fini(&g);
}

TEST(oci, what_does_not_fit_its_digest_is_never_used)
{
    struct oci_tree tree;
    struct err err = {0};
    struct rig g;
    char command[160];

    rig_init(&g);
    make_layout(&g, "{\"os\":\"linux\",\"architecture\":\"amd64\"}");
    (void)snprintf(command, sizeof(command),
                   "for f in %s/layout/blobs/sha256/*; do printf x | dd of=$f bs=1 seek=9 "
                   "conv=notrunc status=none; done",
                   g.dir);
    CHECK_INT(system(command), 0);
    CHECK_INT(get(&g, ":t", &tree, &err), -EBADMSG);
    CHECK_HAS(err.text, "what came has the digest sha256:");
    CHECK_INT(count(&g, "trees"), 0);
    CHECK_INT(get(&g, ":u", &tree, &err), -ENOENT);
    CHECK_HAS(err.text, "no image of tag 'u'");
    rig_fini(&g);
}

TEST(oci, an_image_of_another_machine_is_refused)
{
    struct oci_tree tree;
    struct err err = {0};
    struct rig g;

    rig_init(&g);
    make_layout(&g, "{\"os\":\"linux\",\"architecture\":\"riscv64\"}");
    CHECK_INT(get(&g, ":t", &tree, &err), -ENOEXEC);
    CHECK_HAS(err.text, "it is for linux/riscv64: must be for linux/amd64");
    CHECK_INT(count(&g, "trees"), 0);
    rig_fini(&g);
}

/* --- logins --- */

TEST(oci, logins_are_found_where_docker_keeps_them)
{
    struct oci_login login;
    struct err err = {0};
    struct rig g;
    char path[64];

    rig_init(&g);
    CHECK_INT(setenv("DOCKER_CONFIG", g.dir, 1), 0);
    CHECK_OK(oci_login_find("h.x", &login, &err), &err); /* no file */
    CHECK(!login.user);
    put_text(
        g.dir_fd, "config.json",
        "{\"auths\":{\"h.x\":{\"auth\":\"YWxpY2U6cHc6MQ==\"},\"t.x\":{\"identitytoken\":\"tok\"}"
        "},\"credHelpers\":{\"c.x\":\"ec1test\"}}");
    CHECK_OK(oci_login_find("h.x", &login, &err), &err);
    CHECK_STR(login.user, "alice");
    CHECK_STR(login.secret, "pw:1");
    oci_login_fini(&login);
    CHECK_OK(oci_login_find("t.x", &login, &err), &err);
    CHECK_STR(login.user, OCI_LOGIN_TOKEN);
    CHECK_STR(login.secret, "tok");
    oci_login_fini(&login);
    CHECK_OK(oci_login_find("other.x", &login, &err), &err);
    CHECK(!login.user);

    CHECK(oci_login_find("c.x", &login, &err) < 0); /* there is no such helper yet */
    CHECK_HAS(err.text, "docker-credential-ec1test");
    (void)snprintf(path, sizeof(path), "%s/docker-credential-ec1test", g.dir);
    put_text(
        AT_FDCWD, path,
        "#!/bin/sh\nread h; echo \"{\\\"Username\\\":\\\"$h\\\",\\\"Secret\\\":\\\"s\\\"}\"\n");
    CHECK_INT(chmod(path, 0700), 0);
    {
        char both[4096];

        (void)snprintf(both, sizeof(both), "%s:%s", g.dir, getenv("PATH"));
        CHECK_INT(setenv("PATH", both, 1), 0);
    }
    CHECK_OK(oci_login_find("c.x", &login, &err), &err);
    CHECK_STR(login.user, "c.x");
    CHECK_STR(login.secret, "s");
    oci_login_fini(&login);
    put_text(g.dir_fd, "config.json", "{\"auths\":\n");
    CHECK_INT(oci_login_find("h.x", &login, &err), -EBADMSG);
    CHECK_HAS(err.text, "config.json': line 2");
    CHECK_INT(unsetenv("DOCKER_CONFIG"), 0);
    rig_fini(&g);
}
