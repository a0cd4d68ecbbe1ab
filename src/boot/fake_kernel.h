/* fake_kernel.h — small kernel files for tests: an ELF, and bzImages around it. */
#pragma once

#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/buf.h"
#include "tests/lib/pack.h"
#include "x86/bootparam.h"

#define FAKE_TEXT_GPA  (16 * MIB)
#define FAKE_TEXT_LEN  8192
#define FAKE_ENTRY     (FAKE_TEXT_GPA + 0x10)
#define FAKE_DATA_GPA  (FAKE_TEXT_GPA + 0x4000)
#define FAKE_DATA_LEN  100
#define FAKE_END       (FAKE_DATA_GPA + 0x3000)
#define FAKE_SETUP_LEN (3 * 512)

/* Two segments: text, and data with bss behind it; a note between them that must not be loaded. */
static inline void fake_elf(struct buf *out)
{
    Elf64_Ehdr eh = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, 1},
                     .e_type = ET_EXEC,
                     .e_machine = EM_X86_64,
                     .e_version = 1,
                     .e_entry = FAKE_ENTRY,
                     .e_phoff = sizeof(eh),
                     .e_ehsize = sizeof(eh),
                     .e_phentsize = sizeof(Elf64_Phdr),
                     .e_phnum = 3};
    Elf64_Phdr ph[3] = {{.p_type = PT_LOAD,
                         .p_offset = 4096,
                         .p_vaddr = 0xffffffff81000000,
                         .p_paddr = FAKE_TEXT_GPA,
                         .p_filesz = FAKE_TEXT_LEN,
                         .p_memsz = FAKE_TEXT_LEN},
                        {.p_type = PT_NOTE, .p_offset = 1, .p_filesz = UINT64_MAX},
                        {.p_type = PT_LOAD,
                         .p_offset = 4096 + FAKE_TEXT_LEN,
                         .p_paddr = FAKE_DATA_GPA,
                         .p_filesz = FAKE_DATA_LEN,
                         .p_memsz = FAKE_END - FAKE_DATA_GPA}};

    buf_append(out, &eh, sizeof(eh));
    buf_append(out, ph, sizeof(ph));
    buf_append_zero(out, 4096 - out->len);
    for (unsigned i = 0; i < FAKE_TEXT_LEN + FAKE_DATA_LEN; i++) {
        uint8_t byte = (uint8_t)(i * 7 + (i >> 8));

        buf_append(out, &byte, 1);
    }
}

/* Protocol 2.15, two setup sectors, `payload` at 100H of the protected-mode part. */
static inline void fake_bzimage(const struct buf *payload, struct buf *out)
{
    buf_append_zero(out, FAKE_SETUP_LEN + 0x100);
    out->data[BP_SETUP_SECTS] = 2;
    store_le16(out->data + BP_BOOT_FLAG, BP_BOOT_FLAG_VALUE);
    out->data[BP_JUMP_LEN] = 0x6a;
    store_le32(out->data + BP_HEADER, BP_HEADER_MAGIC);
    store_le16(out->data + BP_VERSION, 0x20f);
    out->data[BP_LOADFLAGS] = BP_LOADFLAGS_LOADED_HIGH;
    store_le32(out->data + BP_INITRD_ADDR_MAX, 0x7fffffff);
    store_le16(out->data + BP_XLOADFLAGS, BP_XLF_KERNEL_64);
    store_le32(out->data + BP_CMDLINE_SIZE, 2047);
    store_le32(out->data + BP_PAYLOAD_OFFSET, 0x100);
    store_le32(out->data + BP_PAYLOAD_LENGTH, (uint32_t)payload->len);
    buf_append(out, payload->data, payload->len);
}

/* The fake ELF packed, with its length behind it as Linux does. */
static inline void fake_packed(enum codec_format format, struct buf *out)
{
    struct buf elf = {0};
    struct buf image = {0};

    fake_elf(&elf);
    pack_any(format, &elf, &image);
    pack_le32(&image, (uint32_t)elf.len);
    fake_bzimage(&image, out);
    buf_fini(&elf);
    buf_fini(&image);
}

/* A file with this content; its name goes to `ret_path`, it lives until the descriptor is closed.
 */
static inline int fake_file(const struct buf *content, char ret_path[static 64])
{
    int fd = memfd_create("fake-kernel", MFD_CLOEXEC);

    CHECK(fd >= 0);
    CHECK_INT(write(fd, content->data, content->len), content->len);
    (void)snprintf(ret_path, 64, "/proc/self/fd/%d", fd);
    return fd;
}
