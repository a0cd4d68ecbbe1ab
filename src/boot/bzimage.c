/* bzimage.c — the setup header of a bzImage. */
#include "boot/bzimage.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "x86/bootparam.h"

#define VERSION_PAYLOAD 0x208 /* payload_offset, payload_length */
#define VERSION_XLF     0x20c /* xloadflags */
#define VERSION_MADE_UP 0x20f
#define HEADER_MIN      (BP_PAYLOAD_LENGTH + 4)
#define ALIGNMENT_MIN   (2 * MIB) /* its early page tables have pages of this size */
#define SECTOR          512u
#define INITRD_MAX_ELF  UINT32_C(0x7fffffff) /* what 64-bit kernels say in their header */
#define CMDLINE_MAX_ELF 2047u                /* COMMAND_LINE_SIZE - 1 on x86 */
#define CMDLINE_MAX_OLD 255u
#define INITRD_MAX_OLD  UINT32_C(0x37ffffff)

_Static_assert(BZIMAGE_SETUP_MAX == BP_HDR_END_MAX - BP_HDR_START, "room of the setup header");

bool bzimage_sniff(const uint8_t *head, size_t len)
{
    return len >= BP_VERSION + 2 && load_le16(head + BP_BOOT_FLAG) == BP_BOOT_FLAG_VALUE &&
           load_le32(head + BP_HEADER) == BP_HEADER_MAGIC;
}

static int check_kind(const uint8_t *head, size_t len, struct err *err)
{
    uint16_t version = load_le16(head + BP_VERSION);

    if (version < VERSION_PAYLOAD) {
        return err_set(err, -ENOEXEC, "boot protocol %u.%02u is too old: must be 2.08 or later",
                       version >> 8u, version & 0xffu);
    }
    if (len < HEADER_MIN) {
        return err_set(err, -ENODATA, "truncated: ends within its setup header");
    }
    if (!(head[BP_LOADFLAGS] & BP_LOADFLAGS_LOADED_HIGH)) {
        return err_set(err, -ENOEXEC, "a zImage: must be a bzImage");
    }
    if (version >= VERSION_XLF && !(load_le16(head + BP_XLOADFLAGS) & BP_XLF_KERNEL_64)) {
        return err_set(err, -ENOEXEC, "a 32-bit kernel: must be 64-bit");
    }
    return 0;
}

static int find_payload(const uint8_t *head, uint64_t file_len, struct bzimage *image,
                        struct err *err)
{
    uint64_t sectors = head[BP_SETUP_SECTS] ? head[BP_SETUP_SECTS] : 4;
    uint64_t len = load_le32(head + BP_PAYLOAD_LENGTH);
    uint64_t offset = (sectors + 1) * SECTOR + load_le32(head + BP_PAYLOAD_OFFSET);

    if (len == 0) {
        return err_set(err, -ENOEXEC, "no payload");
    }
    if (!range_within(offset, len, file_len)) {
        return err_set(err, -ENODATA, "truncated: %" PRIu64 " bytes, must be at least %" PRIu64,
                       file_len, offset + len);
    }
    image->payload_offset = offset;
    image->payload_len = len;
    return 0;
}

static uint64_t alignment(const uint8_t *head)
{
    uint64_t have = load_le32(head + BP_KERNEL_ALIGNMENT);

    return head[BP_RELOCATABLE_KERNEL] && have >= ALIGNMENT_MIN && (have & (have - 1)) == 0 ? have
                                                                                            : 0;
}

int bzimage_parse(const uint8_t *head, size_t len, uint64_t file_len, struct bzimage *ret_image,
                  struct err *err)
{
    struct bzimage image = {0};
    size_t end;
    int r = check_kind(head, len, err);

    if (r < 0) {
        return r;
    }
    r = find_payload(head, file_len, &image, err);
    if (r < 0) {
        return r;
    }
    image.initrd_max = load_le32(head + BP_INITRD_ADDR_MAX);
    image.initrd_max = (image.initrd_max ? image.initrd_max : INITRD_MAX_OLD) + 1;
    image.cmdline_max = load_le32(head + BP_CMDLINE_SIZE);
    image.cmdline_max = image.cmdline_max ? image.cmdline_max : CMDLINE_MAX_OLD;
    image.alignment = alignment(head);
    end = (size_t)BP_HEADER + head[BP_JUMP_LEN];
    end = end < BP_HDR_END_MAX ? end : BP_HDR_END_MAX;
    end = end < len ? end : len;
    image.setup_len = end - BP_HDR_START;
    memcpy(image.setup, head + BP_HDR_START, image.setup_len);
    *ret_image = image;
    return 0;
}

void bzimage_make_up(struct bzimage *ret_image)
{
    uint8_t page[BP_HDR_END_MAX] = {0};

    store_le16(page + BP_BOOT_FLAG, BP_BOOT_FLAG_VALUE);
    page[BP_JUMP_LEN] = BP_HDR_END_MAX - 0x24 - BP_HEADER; /* the 2.15 header ends at 26CH */
    store_le32(page + BP_HEADER, BP_HEADER_MAGIC);
    store_le16(page + BP_VERSION, VERSION_MADE_UP);
    page[BP_LOADFLAGS] = BP_LOADFLAGS_LOADED_HIGH;
    store_le32(page + BP_INITRD_ADDR_MAX, INITRD_MAX_ELF);
    store_le32(page + BP_KERNEL_ALIGNMENT, 0x1000000);
    store_le16(page + BP_XLOADFLAGS, BP_XLF_KERNEL_64);
    store_le32(page + BP_CMDLINE_SIZE, CMDLINE_MAX_ELF);
    *ret_image = (struct bzimage){.initrd_max = (uint64_t)INITRD_MAX_ELF + 1,
                                  .cmdline_max = CMDLINE_MAX_ELF,
                                  .setup_len = BZIMAGE_SETUP_MAX};
    memcpy(ret_image->setup, page + BP_HDR_START, BZIMAGE_SETUP_MAX);
}
