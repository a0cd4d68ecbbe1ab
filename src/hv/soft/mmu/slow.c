/* slow.c — accesses that the TLB does not answer: misses, page crossings, MMIO, code pages.
 *
 * Frames here are left by longjmp when an access raises; they hold no resources.
 */
#include <string.h>

#include "hv/soft/mmu/mmu_int.h"

/* An access in at most two parts, one per page. */
struct parts {
    struct mmu_page page[2];
    size_t len[2];
    unsigned count;
};

static enum tlb_priv priv_now(const struct vcpu *v)
{
    return v->cpl == 3 ? TLB_USER : TLB_SUPERVISOR;
}

/* Start of the page after la's: outside 64-bit mode linear addresses have 32 bits. */
static uint64_t next_page(const struct vcpu *v, uint64_t la)
{
    uint64_t next = (la | 0xfff) + 1;

    return vcpu_is_long64(v) ? next : next & UINT32_MAX;
}

/* Find and check all pages of an access; raises #PF before any effect. */
static void resolve(struct vcpu *v, struct mmu_ask ask, size_t len, struct parts *ret_parts)
{
    size_t room = 4096 - (ask.la & 0xfff);
    uint64_t la = ask.la;

    ret_parts->count = len > room ? 2 : 1;
    ret_parts->len[0] = len > room ? room : len;
    mmu_resolve(v, &ask, &ret_parts->page[0]);
    if (ret_parts->count == 2) {
        ret_parts->len[1] = len - room;
        ask.la = next_page(v, ask.la);
        mmu_resolve(v, &ask, &ret_parts->page[1]);
    }
    if (__builtin_expect(v->debug != NULL, 0)) {
        mmu_watch(v, la, len, ask.access);
    }
}

/* MMIO in naturally sized pieces, ascending. */
static void mmio(struct vcpu *v, uint64_t gpa, uint8_t *data, size_t len, bool is_write)
{
    while (len > 0) {
        unsigned piece = 8;

        while (piece > len) {
            piece /= 2;
        }
        v->stats.mmio++;
        v->platform->mmio(v, GPA(gpa), data, piece, is_write);
        gpa += piece;
        data += piece;
        len -= piece;
    }
}

/* Copies of 1, 2, 4 and 8 bytes are single accesses, for other CPUs look on. */
static void copy(void *to, const void *from, size_t len)
{
    switch (len) {
    case 1: memcpy(to, from, 1); break;
    case 2: memcpy(to, from, 2); break;
    case 4: memcpy(to, from, 4); break;
    case 8: memcpy(to, from, 8); break;
    default: memcpy(to, from, len);
    }
}

static void read_parts(struct vcpu *v, const struct parts *parts, uint8_t *data)
{
    for (unsigned i = 0; i < parts->count; i++) {
        if (parts->page[i].host) {
            copy(data, parts->page[i].host, parts->len[i]);
        } else {
            memset(data, 0, parts->len[i]);
            mmio(v, parts->page[i].gpa, data, parts->len[i], false);
        }
        data += parts->len[i];
    }
}

static void announce(struct vcpu *v, const struct mmu_page *page, size_t len)
{
    if (__builtin_expect(v->announces_stores, 0) && page->host) {
        code_store_coming(v, page->host, len);
    }
}

static void write_parts(struct vcpu *v, const struct parts *parts, const uint8_t *data)
{
    for (unsigned i = 0; i < parts->count; i++) {
        const struct mmu_page *page = &parts->page[i];

        announce(v, page, parts->len[i]);
        if (page->host) {
            copy(page->host, data, parts->len[i]);
        } else {
            uint8_t buffer[4096];

            memcpy(buffer, data, parts->len[i]); /* the callback may change what it is given */
            mmio(v, page->gpa, buffer, parts->len[i], true);
        }
        data += parts->len[i];
    }
    /* last: cache/ may drop the block that is running */
    for (unsigned i = 0; i < parts->count; i++) {
        if (parts->page[i].is_code) {
            code_cache_written(v, GPA(parts->page[i].gpa), parts->len[i]);
        }
    }
}

static void do_read(struct vcpu *v, struct mmu_ask ask, void *data, size_t len)
{
    struct parts parts;

    if (len > 0) {
        resolve(v, ask, len, &parts);
        read_parts(v, &parts, data);
    }
}

static void do_write(struct vcpu *v, struct mmu_ask ask, const void *data, size_t len)
{
    struct parts parts;

    if (len > 0) {
        resolve(v, ask, len, &parts);
        write_parts(v, &parts, data);
    }
}

static struct mmu_ask ask_now(const struct vcpu *v, uint64_t la, enum tlb_access access)
{
    return (struct mmu_ask){.la = la, .access = access, .priv = priv_now(v)};
}

static struct mmu_ask ask_sys(uint64_t la, enum tlb_access access)
{
    return (struct mmu_ask){
        .la = la, .access = access, .priv = TLB_SUPERVISOR, .is_implicit = true};
}

/* --- hits, for those who come from C; any length --- */

static void *hit(const struct tlb_set *set, enum tlb_access access, uint64_t la, size_t len)
{
    const struct tlb_entry *e = &set->slot[access][MMU_SLOT(la)];
    uint64_t offset = la - e->page;

    return offset < 4096 && len <= 4096 - offset ? (void *)(uintptr_t)(e->host + offset) : NULL;
}

/* Under SMAP the supervisor tables hold no user pages, so AC does not matter here. */
static void *sys_hit(struct vcpu *v, enum tlb_access access, uint64_t la, size_t len)
{
    return hit(&v->tlb[TLB_SUPERVISOR], access, la, len);
}

uint64_t mmu_read_slow(struct vcpu *v, uint64_t la, unsigned len)
{
    uint64_t value = 0;

    do_read(v, ask_now(v, la, TLB_READ), &value, len);
    return value;
}

void mmu_write_slow(struct vcpu *v, uint64_t la, uint64_t value, unsigned len)
{
    do_write(v, ask_now(v, la, TLB_WRITE), &value, len);
}

void mmu_read(struct vcpu *v, uint64_t la, void *data, size_t len)
{
    const void *p = hit(v->tlb_now, TLB_READ, la, len);

    if (p) {
        copy(data, p, len);
        return;
    }
    do_read(v, ask_now(v, la, TLB_READ), data, len);
}

void mmu_write(struct vcpu *v, uint64_t la, const void *data, size_t len)
{
    void *p = hit(v->tlb_now, TLB_WRITE, la, len);

    if (p) {
        copy(p, data, len);
        return;
    }
    do_write(v, ask_now(v, la, TLB_WRITE), data, len);
}

uint64_t mmu_sys_read(struct vcpu *v, uint64_t la, unsigned len)
{
    const void *p = sys_hit(v, TLB_READ, la, len);
    uint64_t value = 0;

    if (p) {
        copy(&value, p, len);
        return value;
    }
    do_read(v, ask_sys(la, TLB_READ), &value, len);
    return value;
}

void mmu_sys_write(struct vcpu *v, uint64_t la, uint64_t value, unsigned len)
{
    void *p = sys_hit(v, TLB_WRITE, la, len);

    if (p) {
        copy(p, &value, len);
        return;
    }
    do_write(v, ask_sys(la, TLB_WRITE), &value, len);
}

void mmu_sys_check_write(struct vcpu *v, uint64_t la, size_t len)
{
    struct parts parts;

    if (!sys_hit(v, TLB_WRITE, la, len)) {
        resolve(v, ask_sys(la, TLB_WRITE), len, &parts);
    }
}

void mmu_check_read(struct vcpu *v, uint64_t la, size_t len)
{
    struct parts parts;

    if (!hit(v->tlb_now, TLB_READ, la, len)) {
        resolve(v, ask_now(v, la, TLB_READ), len, &parts);
    }
}

void mmu_check_write(struct vcpu *v, uint64_t la, size_t len)
{
    struct parts parts;

    if (!hit(v->tlb_now, TLB_WRITE, la, len)) {
        resolve(v, ask_now(v, la, TLB_WRITE), len, &parts);
    }
}

void *mmu_ptr_read(struct vcpu *v, uint64_t la, size_t len)
{
    struct parts parts;

    resolve(v, ask_now(v, la, TLB_READ), len, &parts);
    return parts.count == 1 ? parts.page[0].host : NULL;
}

void *mmu_ptr_write(struct vcpu *v, uint64_t la, size_t len)
{
    struct parts parts;

    resolve(v, ask_now(v, la, TLB_WRITE), len, &parts);
    if (parts.count != 1 || parts.page[0].is_code) {
        return NULL;
    }
    announce(v, &parts.page[0], len);
    return parts.page[0].host;
}

void *mmu_ptr_atomic(struct vcpu *v, uint64_t la, size_t len, gpa_t *ret_gpa)
{
    struct parts parts;

    resolve(v, ask_now(v, la, TLB_WRITE), len, &parts);
    *ret_gpa = GPA(parts.page[0].is_code ? parts.page[0].gpa : UINT64_MAX);
    if (parts.count != 1) {
        return NULL;
    }
    announce(v, &parts.page[0], len);
    return parts.page[0].host;
}

/* --- instruction fetch --- */

const uint8_t *mmu_fetch_page(struct vcpu *v, uint64_t la, gpa_t *ret_page)
{
    struct mmu_ask ask = ask_now(v, la, TLB_EXEC);
    struct mmu_page page;

    mmu_resolve(v, &ask, &page);
    *ret_page = GPA(page.gpa & ~UINT64_C(0xfff));
    return page.host ? page.host - (la & 0xfff) : NULL;
}

const uint8_t *mmu_peek_page(struct vcpu *v, uint64_t la, gpa_t *ret_page)
{
    struct mmu_ask ask = ask_now(v, la, TLB_EXEC);
    struct mmu_page page;
    uint32_t error;

    ask.is_dry = true;
    if (!mmu_try_resolve(v, &ask, &page, &error) || !page.host) {
        return NULL;
    }
    *ret_page = GPA(page.gpa & ~UINT64_C(0xfff));
    return page.host - (la & 0xfff);
}

bool mmu_translate(struct vcpu *v, uint64_t la, gpa_t *ret_gpa)
{
    return mmu_walk_debug(v, la, &ret_gpa->v);
}
