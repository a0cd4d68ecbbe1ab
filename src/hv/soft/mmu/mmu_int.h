/* mmu_int.h — what the files of mmu/ share. */
#pragma once

#include "hv/soft/mmu/mmu.h"
#include "mem/map.h"

/* One question to the page tables. */
struct mmu_ask {
    uint64_t la;
    enum tlb_access access;
    enum tlb_priv priv;
    bool is_implicit; /* ignores EFLAGS.AC */
    bool is_dry;      /* change nothing: fails if A (or D) would have to be set */
};

/* The answer: the 4 KiB page that holds the address. */
struct mmu_walk {
    uint64_t gpa;        /* of the 4 KiB page */
    uint64_t leaf_bytes; /* 4 KiB, 2 MiB, 4 MiB, 1 GiB */
    bool user, writable, no_exec, global, dirty;
    bool needs_update; /* dry, and A or D would have to be set */
    uint32_t error;    /* page-fault error code if there is no answer */
};

/* Walk the tables; sets A and D as the access wants.  false: page fault. */
bool mmu_walk(struct vcpu *v, const struct mmu_ask *ask, struct mmu_walk *ret_walk);
/* The walk without permissions and without effects. */
bool mmu_walk_debug(struct vcpu *v, uint64_t la, uint64_t *ret_gpa);

/* Host address of `len` bytes of RAM at gpa, NULL if not RAM. */
uint8_t *mmu_ram(const struct vcpu *v, uint64_t gpa, uint64_t len);
/* The same for an access by the guest to what may also be an extra range of mem; is_fixed: it is
 * one that cannot be written. */
uint8_t *mmu_memory(const struct vcpu *v, uint64_t gpa, uint64_t len, bool *ret_is_fixed);
/* The other way; the pointer came from one of them. */
uint64_t mmu_ram_gpa(const struct vcpu *v, const uint8_t *host);
/* Before the first use of a page: let the host bring in its whole chunk. */
void mmu_populate(struct vcpu *v, uint64_t gpa);

/* watch.c, if v->debug: such a page must not be in the TLB; an access was resolved. */
bool mmu_page_is_watched(const struct vcpu *v, uint64_t la);
void mmu_watch(struct vcpu *v, uint64_t la, size_t len, enum tlb_access access);

/* The page of an access, after all checks; raises #PF. */
struct mmu_page {
    uint64_t gpa;  /* of the first byte asked for */
    uint8_t *host; /* likewise; NULL if not RAM */
    bool is_code;  /* holds decoded code: writes must be reported */
};
void mmu_resolve(struct vcpu *v, const struct mmu_ask *ask, struct mmu_page *ret_page);
/* The same; false in place of #PF. */
bool mmu_try_resolve(struct vcpu *v, const struct mmu_ask *ask, struct mmu_page *ret_page,
                     uint32_t *ret_error);

/* The tag of an entry of slot `slot` that no address which selects the slot can match: its own
 * index bits differ from the slot's. */
static inline uint64_t mmu_poison(unsigned slot)
{
    return (uint64_t)(slot ^ (TLB_SLOTS / 2)) << 12;
}
