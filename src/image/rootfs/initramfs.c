/* initramfs.c — the initramfs of a VM.
 *
 * Modules go in unpacked and without signature: the guest's kernel then spends no time on either,
 * and an init without decompressors can load them on any kernel.
 */
#include "image/rootfs/initramfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/bits.h"
#include "codec/cpio.h"
#include "image/rootfs/module_scan.h"
#include "proto/exec_msg.h"

#define MODULES_DIR "ec1/modules"

enum { INIT_MAX = 64 * 1024 * 1024, NAME_MAX_LEN = 192 };

/* linux/module_signature.h: the signature, struct module_signature, and this text stand at the end.
 */
static const char g_signed[] = "~Module signature appended~\n";
enum { SIGNED_LEN = sizeof(g_signed) - 1, SIGNATURE_HEAD = 12 };

size_t initramfs_module_size(const void *data, size_t len)
{
    const uint8_t *bytes = data;
    const uint8_t *head;
    uint32_t signature_len;

    if (len < SIGNED_LEN + SIGNATURE_HEAD ||
        memcmp(bytes + len - SIGNED_LEN, g_signed, SIGNED_LEN) != 0) {
        return len;
    }
    head = bytes + len - SIGNED_LEN - SIGNATURE_HEAD;
    signature_len = (uint32_t)head[8] << 24 | (uint32_t)head[9] << 16 | (uint32_t)head[10] << 8 |
                    (uint32_t)head[11];
    if (signature_len > len - SIGNED_LEN - SIGNATURE_HEAD) {
        return len;
    }
    return len - SIGNED_LEN - SIGNATURE_HEAD - signature_len;
}

/* "/a/b/virtio-rng.ko.xz" -> "ec1/modules/virtio-rng.ko" */
static void archive_name(const char *path, char name[static NAME_MAX_LEN])
{
    const char *base = strrchr(path, '/');
    const char *end;

    base = base ? base + 1 : path;
    end = strstr(base, ".ko");
    (void)snprintf(name, NAME_MAX_LEN, MODULES_DIR "/%.*s.ko",
                   (int)(end ? (size_t)(end - base) : strlen(base)), base);
}

static int add_module(struct cpio *cpio, const char *path, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf module = {0};
    char name[NAME_MAX_LEN];
    int r = module_read(path, &module, err);

    if (r < 0) {
        return r;
    }
    archive_name(path, name);
    cpio_file(cpio, name, 0644, module.data, initramfs_module_size(module.data, module.len));
    return 0;
}

static int add_modules(struct cpio *cpio, const struct module_list *list, struct err *err)
{
    for (size_t i = 0; i < list->count; i++) {
        int r = add_module(cpio, list->paths[i], err);

        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int add_config(struct cpio *cpio, const Ec1__V1__BootConfig *config,
                      const struct module_list *list, struct err *err)
{
    AUTO_FREE char **paths = calloc(list->count + 1, sizeof(*paths));
    AUTO_FREE char(*names)[NAME_MAX_LEN + 1] = calloc(list->count + 1, sizeof(*names));
    AUTO_FREE uint8_t *bytes = NULL;
    Ec1__V1__BootConfig copy = *config;
    size_t len;

    if (!paths || !names) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < list->count; i++) {
        names[i][0] = '/';
        archive_name(list->paths[i], names[i] + 1);
        paths[i] = names[i];
    }
    copy.n_modules = list->count;
    copy.modules = paths;
    len = ec1__v1__boot_config__get_packed_size(&copy);
    bytes = malloc(len + 1);
    if (!bytes) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    (void)ec1__v1__boot_config__pack(&copy, bytes);
    cpio_file(cpio, &EXEC_BOOT_FILE[1], 0644, bytes, len);
    return 0;
}

static int add_init(struct cpio *cpio, const char *path, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf file = {0};
    int r = buf_read_file(&file, path, INIT_MAX);

    if (r < 0) {
        return err_set(err, r, "read the guest's init '%s': %s", path, strerror(-r));
    }
    cpio_file(cpio, "init", 0755, file.data, file.len);
    return 0;
}

static int fill(struct cpio *cpio, const struct initramfs_request *request,
                const struct module_list *list, struct err *err)
{
    int r;

    cpio_dir(cpio, "dev", 0755);
    cpio_node(cpio, "dev/console", S_IFCHR | 0600, 5, 1);
    cpio_node(cpio, "dev/null", S_IFCHR | 0666, 1, 3);
    cpio_dir(cpio, "ec1", 0755);
    cpio_dir(cpio, MODULES_DIR, 0755);
    r = add_init(cpio, request->init_path, err);
    if (r == 0) {
        r = add_modules(cpio, list, err);
    }
    return r < 0 ? r : add_config(cpio, request->config, list, err);
}

int initramfs_make(const struct initramfs_request *request, struct buf *ret_archive,
                   unsigned *ret_found, struct err *err)
{
    struct module_list list = {0};
    struct cpio cpio;
    int end;
    int r = 0;

    if (request->modules_dir) {
        r = module_list_make(request->modules_dir, request->needed, request->wanted, &list, err);
        if (r < 0) {
            return r;
        }
    }
    cpio_init(&cpio, ret_archive);
    r = fill(&cpio, request, &list, err);
    end = cpio_end(&cpio);
    if (r == 0 && end < 0) {
        r = err_set(err, end, "compose the initramfs: %s", strerror(-end));
    }
    if (r == 0) {
        *ret_found = list.found;
    }
    module_list_fini(&list);
    return r;
}
