/* walk.c — page tables: find the page, check the permissions, set accessed and dirty.
 *
 * Theory of operation.  A walk reads each entry once, remembers where it was, and checks presence,
 * reserved bits and permissions on the values read.  Only when the access is allowed are A and D
 * set, each with a compare-and-exchange against the value that was checked; if another CPU changed
 * an entry meanwhile the walk starts again.  So D is never set without a permitted write, and A
 * never in an entry that is not present.
 *
 * Formats: 4-level, PAE, and 32-bit with 4 MiB pages (SDM volume 3, 4.3 to 4.5).  PAE's four
 * directory pointers are read from memory on each walk instead of at the write of CR3.  A table
 * outside RAM reads as all ones, as an absent device would.
 */
#include "hv/soft/mmu/mmu_int.h"
#include "x86/cr.h"
#include "x86/paging.h"

#define PHYS_RESERVED (PTE_ADDR & ~((UINT64_C(1) << CPU_PHYS_BITS) - 1))
#define PAE_RESERVED  (PHYS_RESERVED | UINT64_C(0x7ff0000000000000))

struct step {
    void *host;
    uint64_t value;
};

struct path {
    struct step step[4];
    unsigned depth;
    bool is_wide; /* 8-byte entries */
};

/* Read the entry at gpa into the next step. */
static uint64_t read_entry(struct vcpu *v, struct path *path, uint64_t gpa)
{
    uint8_t *host = mmu_ram(v, gpa, path->is_wide ? 8 : 4);
    uint64_t value = path->is_wide ? UINT64_MAX : UINT32_MAX;

    if (host && path->is_wide) {
        value = __atomic_load_n((uint64_t *)(void *)host, __ATOMIC_ACQUIRE);
    } else if (host) {
        value = __atomic_load_n((uint32_t *)(void *)host, __ATOMIC_ACQUIRE);
    }
    path->step[path->depth++] = (struct step){.host = host, .value = value};
    return value;
}

static bool fail(struct mmu_walk *walk, uint32_t error)
{
    walk->error = error;
    return false;
}

/* Bits of an 8-byte entry that must be 0: tables 4-15 to 4-20 (and 4-8 to 4-11 for PAE). */
static uint64_t reserved_bits(const struct vcpu *v, unsigned shift, bool is_leaf, bool is_long)
{
    uint64_t bits = is_long ? PHYS_RESERVED : PAE_RESERVED;

    if (!(v->efer & EFER_NXE)) {
        bits |= PTE_XD;
    }
    if (shift == 39) {
        bits |= PTE_PS;
    } else if (is_leaf && shift > 12) {
        bits |= ((UINT64_C(1) << shift) - 1) & ~UINT64_C(0x1fff); /* bit 12 is PAT */
    }
    return bits;
}

/* Levels from `shift` down in the 8-byte format. */
static bool descend(struct vcpu *v, uint64_t la, uint64_t table, unsigned shift, bool is_long,
                    struct path *path, struct mmu_walk *walk)
{
    for (;; shift -= 9) {
        uint64_t value = read_entry(v, path, table + ((la >> shift) & 511) * 8);
        bool is_leaf = shift == 12 || ((value & PTE_PS) && shift < 39);

        if (!(value & PTE_P)) {
            return fail(walk, 0);
        }
        if (value & reserved_bits(v, shift, is_leaf, is_long)) {
            return fail(walk, PFEC_P | PFEC_RSVD);
        }
        walk->user &= (value & PTE_US) != 0;
        walk->writable &= (value & PTE_RW) != 0;
        walk->no_exec |= (value & PTE_XD) != 0;
        if (is_leaf) {
            uint64_t size = UINT64_C(1) << shift;

            walk->leaf_bytes = size;
            walk->gpa = (value & PTE_ADDR & ~(size - 1)) | (la & (size - 1) & ~UINT64_C(0xfff));
            walk->global = (value & PTE_G) && (v->cr4 & CR4_PGE);
            walk->dirty = (value & PTE_D) != 0;
            return true;
        }
        table = value & PTE_ADDR;
    }
}

static bool walk_pae(struct vcpu *v, uint64_t la, struct path *path, struct mmu_walk *walk)
{
    uint64_t value = read_entry(v, path, (v->cr3 & UINT64_C(0xffffffe0)) + ((la >> 30) & 3) * 8);

    path->depth = 0; /* directory pointers have no A bit */
    if (!(value & PTE_P)) {
        return fail(walk, 0);
    }
    if (value & (PHYS_RESERVED | UINT64_C(0xfff00000000001e6))) {
        return fail(walk, PFEC_P | PFEC_RSVD);
    }
    return descend(v, la & UINT32_MAX, value & PTE_ADDR, 21, false, path, walk);
}

static bool walk_32(struct vcpu *v, uint64_t la, struct path *path, struct mmu_walk *walk)
{
    uint64_t value = read_entry(v, path, (v->cr3 & PTE_ADDR32) + ((la >> 22) & 1023) * 4);
    bool is_large = (value & PTE_PS) && (v->cr4 & CR4_PSE);

    if (!(value & PTE_P)) {
        return fail(walk, 0);
    }
    if (is_large && (value & UINT64_C(0x200000))) { /* table 4-4; PSE-36 uses bits 13 to 20 */
        return fail(walk, PFEC_P | PFEC_RSVD);
    }
    walk->user &= (value & PTE_US) != 0;
    walk->writable &= (value & PTE_RW) != 0;
    if (is_large) {
        walk->leaf_bytes = UINT64_C(1) << 22;
        walk->gpa = (value & UINT64_C(0xffc00000)) | ((value & UINT64_C(0x1fe000)) << 19) |
                    (la & UINT64_C(0x3ff000));
    } else {
        value = read_entry(v, path, (value & PTE_ADDR32) + ((la >> 12) & 1023) * 4);
        if (!(value & PTE_P)) {
            return fail(walk, 0);
        }
        walk->user &= (value & PTE_US) != 0;
        walk->writable &= (value & PTE_RW) != 0;
        walk->leaf_bytes = 4096;
        walk->gpa = value & PTE_ADDR32;
    }
    walk->global = (value & PTE_G) && (v->cr4 & CR4_PGE);
    walk->dirty = (value & PTE_D) != 0;
    return true;
}

static bool find_page(struct vcpu *v, uint64_t la, struct path *path, struct mmu_walk *walk)
{
    bool has_pae = (v->cr4 & CR4_PAE) != 0;

    *walk = (struct mmu_walk){.user = true, .writable = true, .leaf_bytes = 4096};
    path->depth = 0;
    path->is_wide = has_pae;
    if (!(v->cr0 & CR0_PG)) {
        walk->gpa = la & UINT32_MAX & ~UINT64_C(0xfff);
        walk->dirty = true;
        return true;
    }
    if (v->efer & EFER_LMA) {
        return descend(v, la, v->cr3 & PTE_ADDR, 39, true, path, walk);
    }
    return has_pae ? walk_pae(v, la, path, walk) : walk_32(v, la, path, walk);
}

/* SDM volume 3, 4.6.1. */
static bool is_permitted(const struct vcpu *v, const struct mmu_ask *ask,
                         const struct mmu_walk *walk)
{
    if (!(v->cr0 & CR0_PG)) {
        return true;
    }
    if (ask->access == TLB_EXEC && walk->no_exec) {
        return false;
    }
    if (ask->priv == TLB_USER) {
        return walk->user && (ask->access != TLB_WRITE || walk->writable);
    }
    if (ask->access == TLB_EXEC) {
        return !(walk->user && (v->cr4 & CR4_SMEP));
    }
    if (walk->user && (v->cr4 & CR4_SMAP) && (ask->is_implicit || !(vcpu_rflags(v) & FLAG_AC))) {
        return false;
    }
    return ask->access != TLB_WRITE || walk->writable || !(v->cr0 & CR0_WP);
}

/* Bits of the error code that describe the access: section 4.7. */
static uint32_t access_error(const struct vcpu *v, const struct mmu_ask *ask)
{
    uint32_t error = 0;

    if (ask->access == TLB_WRITE) {
        error |= PFEC_W;
    }
    if (ask->priv == TLB_USER) {
        error |= PFEC_U;
    }
    if (ask->access == TLB_EXEC &&
        ((v->cr4 & CR4_SMEP) || ((v->cr4 & CR4_PAE) && (v->efer & EFER_NXE)))) {
        error |= PFEC_I;
    }
    return error;
}

static bool set_bits(const struct vcpu *v, const struct path *path, const struct step *step,
                     uint64_t bits)
{
    mem_dirty_mark(v->mem, GPA(mmu_ram_gpa(v, step->host)), 4);
    if (path->is_wide) {
        uint64_t old = step->value;

        return __atomic_compare_exchange_n((uint64_t *)step->host, &old, old | bits, false,
                                           __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    uint32_t old = (uint32_t)step->value;

    return __atomic_compare_exchange_n((uint32_t *)step->host, &old, old | (uint32_t)bits, false,
                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Set what is missing along the path.  false: an entry changed under us, walk again. */
static bool update_path(const struct vcpu *v, const struct path *path, const struct mmu_ask *ask,
                        struct mmu_walk *walk)
{
    for (unsigned i = 0; i < path->depth; i++) {
        bool is_leaf = i + 1 == path->depth;
        uint64_t want = is_leaf && ask->access == TLB_WRITE ? PTE_A | PTE_D : PTE_A;

        if ((path->step[i].value & want) == want) {
            continue;
        }
        if (ask->is_dry) {
            walk->needs_update = true;
        } else if (!set_bits(v, path, &path->step[i], want)) {
            return false;
        }
        walk->dirty |= is_leaf && (want & PTE_D);
    }
    return true;
}

/* --- the usual case: 4-level, all entries present, accessed, permitted, with nothing reserved ---
 */

/* Bits that all entries must have. */
static uint64_t wanted(const struct vcpu *v, const struct mmu_ask *ask)
{
    bool is_user = ask->priv == TLB_USER;
    bool is_write = ask->access == TLB_WRITE;

    return PTE_P | PTE_A | (is_user ? PTE_US : 0) |
           (is_write && (is_user || (v->cr0 & CR0_WP)) ? PTE_RW : 0);
}

/* Is a user page, or one that must not be executed, an unusual one? */
static bool is_plain(const struct vcpu *v, const struct mmu_ask *ask, const struct mmu_walk *walk)
{
    uint64_t guard = ask->access == TLB_EXEC ? CR4_SMEP : CR4_SMAP;

    if (ask->access == TLB_EXEC && walk->no_exec) {
        return false;
    }
    return ask->priv == TLB_USER || !walk->user || !(v->cr4 & guard);
}

/* false: unusual, nothing is known. */
static bool walk_usual(struct vcpu *v, const struct mmu_ask *ask, struct mmu_walk *ret_walk)
{
    uint64_t want = wanted(v, ask), all = UINT64_MAX, any = 0, value = v->cr3, low = 0;
    unsigned shift = 48;

    do {
        const uint8_t *host;

        shift -= 9;
        host = mmu_ram(v, (value & PTE_ADDR) + ((ask->la >> shift) & 511) * 8, 8);
        if (!host) {
            return false;
        }
        value = __atomic_load_n((const uint64_t *)(const void *)host, __ATOMIC_ACQUIRE);
        all &= value;
        any |= value;
        if ((value & want) != want) {
            return false;
        }
    } while (shift > 12 && !(value & PTE_PS));
    if (shift > 12) {
        low = (UINT64_C(1) << shift) - 1;
        /* bit 12 is PAT; in the topmost level PTE_PS is reserved */
        if (shift == 39 || (value & PTE_ADDR & low & ~UINT64_C(0x1000))) {
            return false;
        }
    }
    if ((any & (PHYS_RESERVED | (v->efer & EFER_NXE ? 0 : PTE_XD))) ||
        (ask->access == TLB_WRITE && !(value & PTE_D))) {
        return false;
    }
    *ret_walk = (struct mmu_walk){
        .gpa = (value & PTE_ADDR & ~low) | (ask->la & low & ~UINT64_C(0xfff)),
        .leaf_bytes = UINT64_C(1) << shift,
        .user = all & PTE_US,
        .writable = all & PTE_RW,
        .no_exec = any & PTE_XD,
        .global = (value & PTE_G) && (v->cr4 & CR4_PGE),
        .dirty = value & PTE_D,
    };
    return is_plain(v, ask, ret_walk);
}

bool mmu_walk(struct vcpu *v, const struct mmu_ask *ask, struct mmu_walk *ret_walk)
{
    struct path path;

    v->stats.page_walks++;
    if ((v->efer & EFER_LMA) && walk_usual(v, ask, ret_walk)) {
        return true;
    }
    do {
        if (!find_page(v, ask->la, &path, ret_walk)) {
            ret_walk->error |= access_error(v, ask);
            return false;
        }
        if (!is_permitted(v, ask, ret_walk)) {
            ret_walk->error = PFEC_P | access_error(v, ask);
            return false;
        }
    } while (!update_path(v, &path, ask, ret_walk));
    return !ret_walk->needs_update;
}

bool mmu_walk_debug(struct vcpu *v, uint64_t la, uint64_t *ret_gpa)
{
    struct path path;
    struct mmu_walk walk;

    if (!find_page(v, la, &path, &walk)) {
        return false;
    }
    *ret_gpa = walk.gpa | (la & 0xfff);
    return true;
}
