/* bootparam.h — Linux's boot protocol: offsets in the zero page (struct boot_params), of which the
 * setup header is a part that also stands in a bzImage at the same offsets
 * (Documentation/arch/x86/boot.rst and zero-page.rst). */
#pragma once

/* The zero page. */
#define BP_LEN               4096
#define BP_ACPI_RSDP_ADDR    0x070 /* 8 bytes, protocol 2.14 */
#define BP_EXT_RAMDISK_IMAGE 0x0c0
#define BP_EXT_RAMDISK_SIZE  0x0c4
#define BP_EXT_CMD_LINE_PTR  0x0c8
#define BP_E820_ENTRIES      0x1e8 /* 1 byte */
#define BP_E820_TABLE        0x2d0
#define BP_E820_MAX          128
#define BP_E820_ENTRY_LEN    20 /* address 8, length 8, type 4 */

/* The setup header. */
#define BP_HDR_START          0x1f1
#define BP_SETUP_SECTS        0x1f1 /* 1 byte; 0 means 4 */
#define BP_BOOT_FLAG          0x1fe /* 2 bytes */
#define BP_JUMP_LEN           0x201 /* 1 byte: the header ends this far behind 202H */
#define BP_HEADER             0x202 /* "HdrS" */
#define BP_VERSION            0x206 /* 2 bytes: 20FH is 2.15 */
#define BP_KERNEL_VERSION     0x20e /* 2 bytes: where its text is, from 200H; 0: nowhere */
#define BP_TYPE_OF_LOADER     0x210 /* 1 byte */
#define BP_LOADFLAGS          0x211 /* 1 byte */
#define BP_RAMDISK_IMAGE      0x218
#define BP_RAMDISK_SIZE       0x21c
#define BP_CMD_LINE_PTR       0x228
#define BP_INITRD_ADDR_MAX    0x22c /* highest address of the last byte of an initrd */
#define BP_KERNEL_ALIGNMENT   0x230
#define BP_RELOCATABLE_KERNEL 0x234 /* 1 byte */
#define BP_XLOADFLAGS         0x236 /* 2 bytes, protocol 2.12 */
#define BP_CMDLINE_SIZE       0x238
#define BP_PAYLOAD_OFFSET     0x248
#define BP_PAYLOAD_LENGTH     0x24c
#define BP_HDR_END_MAX        0x290 /* the room of the header in the zero page ends here */

#define BP_KERNEL_VERSION_BASE    0x200
#define BP_BOOT_FLAG_VALUE        0xaa55
#define BP_HEADER_MAGIC           0x53726448u /* "HdrS" */
#define BP_LOADER_UNDEFINED       0xff
#define BP_LOADFLAGS_LOADED_HIGH  0x01
#define BP_LOADFLAGS_KASLR        0x02 /* the loader has randomized the kernel's address */
#define BP_LOADFLAGS_QUIET        0x20
#define BP_LOADFLAGS_CAN_USE_HEAP 0x80
#define BP_XLF_KERNEL_64          0x0001
