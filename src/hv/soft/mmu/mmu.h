/* mmu.h — guest memory as the guest's CPU sees it: linear addresses, paging, permissions, MMIO.
 *
 * `la` is a linear address: segment base added, canonical check and segment limits are the caller's
 * (ref/ea.h).  Every function may raise (#PF, #GP for nothing here) and then does not return; all
 * permission checks of an access precede its first effect, both pages of a crossing access
 * included. "user" accesses are those at CPL 3; the sys_ ones are implicit supervisor accesses
 * (descriptor tables, TSS: SDM volume 3, 4.6.1), which ignore CPL and EFLAGS.AC.
 *
 * Fast path: a soft TLB, inline here.  A page is in the read table if it is plain RAM, present,
 * accessed and permitted; in the write table if moreover dirty and without decoded code.  Anything
 * else takes the slow path, which walks, sets A and D, performs MMIO through platform->mmio, or
 * reports a write to code (mmu_code_written).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hv/soft/cpu/vcpu.h"

/* --- accesses of instructions --- */

uint64_t mmu_read_slow(struct vcpu *v, uint64_t la, unsigned len);
void mmu_write_slow(struct vcpu *v, uint64_t la, uint64_t value, unsigned len);

#define MMU_SLOT(la) (((la) >> 12) & (TLB_SLOTS - 1))

/* Host address of an access that lies within one page and hits the TLB, else NULL.  `len` <= 4096.
 */
static inline void *mmu_hit(struct vcpu *v, enum tlb_access access, uint64_t la, unsigned len)
{
    const struct tlb_entry *e = &v->tlb_now->slot[access][MMU_SLOT(la)];
    uint64_t offset = la - e->page;

    /* one unsigned compare: right page, and not crossing its end */
    return offset <= 4096u - len ? (void *)(uintptr_t)(e->host + offset) : NULL;
}

#define MMU_ACCESSORS(bits)                                                               \
    static inline uint##bits##_t mmu_read##bits(struct vcpu *v, uint64_t la)              \
    {                                                                                     \
        const void *p = mmu_hit(v, TLB_READ, la, (bits) / 8);                             \
        uint##bits##_t value;                                                             \
                                                                                          \
        if (__builtin_expect(!p, 0)) {                                                    \
            return (uint##bits##_t)mmu_read_slow(v, la, (bits) / 8);                      \
        }                                                                                 \
        __builtin_memcpy(&value, p, sizeof(value));                                       \
        return value;                                                                     \
    }                                                                                     \
    static inline void mmu_write##bits(struct vcpu *v, uint64_t la, uint##bits##_t value) \
    {                                                                                     \
        void *p = mmu_hit(v, TLB_WRITE, la, (bits) / 8);                                  \
                                                                                          \
        if (__builtin_expect(!p, 0)) {                                                    \
            mmu_write_slow(v, la, value, (bits) / 8);                                     \
            return;                                                                       \
        }                                                                                 \
        __builtin_memcpy(p, &value, sizeof(value));                                       \
    }

MMU_ACCESSORS(8)
MMU_ACCESSORS(16)
MMU_ACCESSORS(32)
MMU_ACCESSORS(64)

/* Any length up to 4096 bytes, may cross one page boundary, MMIO in pieces of up to 8 bytes. */
void mmu_read(struct vcpu *v, uint64_t la, void *data, size_t len);
void mmu_write(struct vcpu *v, uint64_t la, const void *data, size_t len);

/* Make sure that a later mmu_write / mmu_read of the same range cannot raise: for instructions that
 * must check both operands, and for read-modify-write (which needs write permission first, and sets
 * D even if nothing is written in the end: CMPXCHG). */
void mmu_check_write(struct vcpu *v, uint64_t la, size_t len);
void mmu_check_read(struct vcpu *v, uint64_t la, size_t len);

/* Host address of [la, la+len) if it is within one page of plain RAM that may be accessed fast,
 * filling the TLB as needed; NULL if the access must be done with mmu_read/mmu_write.  Raises where
 * the access itself would.  For string instructions, atomics and vector operands. */
void *mmu_ptr_read(struct vcpu *v, uint64_t la, size_t len);
void *mmu_ptr_write(struct vcpu *v, uint64_t la, size_t len);

/* For LOCKed instructions: the host address also where a page holds decoded code (there *ret_gpa is
 * its guest address, else GPA(UINT64_MAX)).  After the store, call mmu_atomic_done().  NULL if the
 * access crosses a page or is not RAM. */
void *mmu_ptr_atomic(struct vcpu *v, uint64_t la, size_t len, gpa_t *ret_gpa);
static inline void mmu_atomic_done(struct vcpu *v, gpa_t gpa, size_t len);

/* --- implicit supervisor accesses: 1, 2, 4, 8 bytes --- */
uint64_t mmu_sys_read(struct vcpu *v, uint64_t la, unsigned len);
void mmu_sys_write(struct vcpu *v, uint64_t la, uint64_t value, unsigned len);
/* Make sure that later mmu_sys_write of the same range cannot raise; len <= 4096. */
void mmu_sys_check_write(struct vcpu *v, uint64_t la, size_t len);

/* --- instruction fetch --- */

/* Translate the page of `la` for fetching at the current CPL; raises #PF.  *ret_page is the guest
 * physical address of the page.  Returns its host address, NULL if it is not RAM. */
const uint8_t *mmu_fetch_page(struct vcpu *v, uint64_t la, gpa_t *ret_page);
/* The same without raising, setting A or touching MMIO, for decoding ahead: NULL if it would fault,
 * or if A would have to be set. */
const uint8_t *mmu_peek_page(struct vcpu *v, uint64_t la, gpa_t *ret_page);

/* --- code pages --- */

/* The page now holds decoded code: it leaves every write table of this vCPU and is watched in mem.
 */
void mmu_code_page_add(struct vcpu *v, gpa_t page);
void mmu_code_page_remove(struct vcpu *v, gpa_t page);
/* Another vCPU added it: drop this vCPU's write entries for it.  Were there any? */
bool mmu_code_page_drop_writers(struct vcpu *v, gpa_t page);
/* Implemented by cache/: the vCPU itself wrote [gpa, gpa+len) on a code page, after the bytes are
 * in place. */
void code_cache_written(struct vcpu *v, gpa_t gpa, uint64_t len);
static inline void mmu_atomic_done(struct vcpu *v, gpa_t gpa, size_t len)
{
    if (__builtin_expect(gpa.v != UINT64_MAX, 0)) {
        code_cache_written(v, gpa, len);
    }
}
/* Implemented by cache/: translations of linear addresses of code changed, perhaps only as seen at
 * CPL 3; links and lookup tables keyed by linear address must go. */
void code_cache_flush_lookup(struct vcpu *v, bool is_user_only);
/* The same for the translation of one page. */
void code_cache_flush_page(struct vcpu *v, uint64_t la);

/* Implemented by cache/: while v->announces_stores, an instruction is about to store there, as far
 * as it does not hit v->tlb_now, which is kept empty meanwhile.  May leave through v->unwind. */
void code_store_coming(struct vcpu *v, uint8_t *host, size_t len);

/* Memory that v->debug watches, or does not watch any more. */
void mmu_watch_changed(struct vcpu *v, const struct hv_break *b);

/* --- flushes --- */
void mmu_init(struct vcpu *v);
/* A TLB in which nothing is found. */
void mmu_clear_set(struct tlb_set *set);
void mmu_flush_all(struct vcpu *v); /* global pages too */
/* The extra range `index` of mem came or went. */
void mmu_extra_changed(struct vcpu *v, unsigned index);
void mmu_flush_non_global(struct vcpu *v);        /* CR3 write */
void mmu_flush_page(struct vcpu *v, uint64_t la); /* INVLPG; a large page goes whole */
/* CR0.WP, CR0.PG, CR4.{PAE,PGE,SMEP,SMAP}, EFER.NXE or CPL changed as described; called by cpu/. */
void mmu_mode_changed(struct vcpu *v);
/* EFLAGS.AC changed under SMAP. */
void mmu_ac_changed(struct vcpu *v);

/* --- for debuggers and tests: no side effects --- */
#define MMU_AUDIT_WHY 160
/* Does all that is reached without a walk lie in guest memory?  false: `why` says what does not. */
bool mmu_audit(const struct vcpu *v, char why[static MMU_AUDIT_WHY]);
bool mmu_translate(struct vcpu *v, uint64_t la, gpa_t *ret_gpa);
