/* walk.c — see walk.h.  Formats: SDM volume 3, 4.3 to 4.5. */
#include "hv/walk.h"

#include <errno.h>
#include <stdbool.h>

#include "hv/cpu_state.h"
#include "mem/map.h"
#include "x86/cr.h"
#include "x86/paging.h"

#define TOP_SHIFT      39u /* of 4 levels; a fifth comes before */
#define PAE_SHIFT      30u
#define MAX_LEAF_SHIFT 30u
#define PAE_CR3        UINT64_C(0xffffffe0)

struct walk_root walk_root_of(const struct cpu_state *cpu)
{
    return (struct walk_root){.cr0 = cpu->cr0, .cr3 = cpu->cr3, .cr4 = cpu->cr4, .efer = cpu->efer};
}

/* One entry; false: outside RAM, or not present.  guest: the address. */
static bool read_entry(const struct mem_map *mem, uint64_t gpa, unsigned len, uint64_t *ret_entry)
{
    *ret_entry = 0;
    return mem_read(mem, GPA(gpa), ret_entry, len) == 0 && (*ret_entry & PTE_P);
}

/* Tables of 512 entries, from the one that bits `shift` to shift + 8 of la select in. */
static int descend(const struct mem_map *mem, uint64_t table, unsigned shift, uint64_t la,
                   gpa_t *ret_gpa)
{
    for (;; shift -= 9) {
        uint64_t size = UINT64_C(1) << shift;
        uint64_t entry;

        if (!read_entry(mem, table + (la >> shift & 511) * 8, 8, &entry)) {
            return -EFAULT;
        }
        if (shift == 12 || ((entry & PTE_PS) && shift <= MAX_LEAF_SHIFT)) {
            *ret_gpa = GPA((entry & PTE_ADDR & ~(size - 1)) | (la & (size - 1)));
            return 0;
        }
        table = entry & PTE_ADDR;
    }
}

static bool is_canonical(uint64_t la, unsigned bits)
{
    return (uint64_t)((int64_t)(la << (64 - bits)) >> (64 - bits)) == la;
}

static int walk_long(const struct mem_map *mem, const struct walk_root *root, uint64_t la,
                     gpa_t *ret_gpa)
{
    unsigned shift = root->cr4 & CR4_LA57 ? TOP_SHIFT + 9 : TOP_SHIFT;

    return is_canonical(la, shift + 9) ? descend(mem, root->cr3 & PTE_ADDR, shift, la, ret_gpa)
                                       : -EFAULT;
}

static int walk_pae(const struct mem_map *mem, const struct walk_root *root, uint64_t la,
                    gpa_t *ret_gpa)
{
    uint64_t entry;

    if (!read_entry(mem, (root->cr3 & PAE_CR3) + (la >> PAE_SHIFT & 3) * 8, 8, &entry)) {
        return -EFAULT;
    }
    return descend(mem, entry & PTE_ADDR, PAE_SHIFT - 9, la, ret_gpa);
}

static int walk_32(const struct mem_map *mem, const struct walk_root *root, uint64_t la,
                   gpa_t *ret_gpa)
{
    uint64_t entry;

    if (!read_entry(mem, (root->cr3 & PTE_ADDR32) + (la >> 22 & 1023) * 4, 4, &entry)) {
        return -EFAULT;
    }
    if ((entry & PTE_PS) && (root->cr4 & CR4_PSE)) {
        /* table 4-4: bits 13 to 20 are 32 to 39 of the address */
        *ret_gpa = GPA((entry & 0xffc00000) | (entry & 0x1fe000) << 19 | (la & 0x3fffff));
        return 0;
    }
    if (!read_entry(mem, (entry & PTE_ADDR32) + (la >> 12 & 1023) * 4, 4, &entry)) {
        return -EFAULT;
    }
    *ret_gpa = GPA((entry & PTE_ADDR32) | (la & 0xfff));
    return 0;
}

int walk_linear(const struct mem_map *mem, const struct walk_root *root, uint64_t la,
                gpa_t *ret_gpa)
{
    if (!(root->cr0 & CR0_PG)) {
        *ret_gpa = GPA(la & UINT32_MAX);
        return 0;
    }
    if (root->efer & EFER_LMA) {
        return walk_long(mem, root, la, ret_gpa);
    }
    la &= UINT32_MAX;
    return root->cr4 & CR4_PAE ? walk_pae(mem, root, la, ret_gpa) : walk_32(mem, root, la, ret_gpa);
}
