/* memory.c — what translated code is kept in and runs on: hot and cold code, the stack of calls. */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "hv/soft/emit/emit_int.h"
#include "hv/soft/emit/verify.h"

/* The host gives pages by the step, for both views: one by one they cost ten times more. */
static void populate(struct emit_cache *e, const struct asm_buf *a, size_t *populated)
{
    while ((size_t)(a->at - a->start) + CODE_RESERVE > *populated &&
           *populated < (size_t)(a->end - a->start)) {
        uint8_t *next = a->start + *populated;

        (void)madvise(next, CODE_STEP, MADV_POPULATE_WRITE);
        (void)madvise(e->view.rx + (next - e->view.rw), CODE_STEP, MADV_POPULATE_READ);
        *populated += CODE_STEP;
    }
}

void emit_populate(struct emit_cache *e)
{
    populate(e, &e->buf, &e->populated[0]);
    populate(e, &e->cold, &e->populated[1]);
}

bool emit_is_full(const struct vcpu *v)
{
    const struct emit_cache *e = v->emit;

    return (size_t)(e->buf.end - e->buf.at) < CODE_RESERVE ||
           (size_t)(e->cold.end - e->cold.at) < CODE_RESERVE;
}

size_t emit_code_bytes(const struct vcpu *v)
{
    const struct emit_cache *e = v->emit;

    return (size_t)(e->buf.at - e->buf.start) + (size_t)(e->cold.at - e->cold.start);
}

void emit_clear(struct vcpu *v)
{
    v->emit->buf.at = v->emit->buf.start + v->emit->first;
    v->emit->cold.at = v->emit->cold.start;
    emit_forget_indirect(v);
}

/* CPUID leaf 7, EBX bit 8.  Its instructions on general registers need nothing of the system. */
static bool host_has_bmi2(void)
{
    unsigned a, b = 0, c, d;

    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 8);
}

/* The pair at the bottom belongs to no call: who returns by it, to address 0, has missed. */
static void init_pairs(struct vcpu *v)
{
    const struct emit_cache *e = v->emit;
    uint64_t *base = (uint64_t *)(void *)(e->pairs + PAIR_BYTES - 64);

    base[0] = (uintptr_t)emit_executable(e, e->return_bottom);
    base[1] = 0;
    v->pair_base = (uintptr_t)base;
    v->pair_limit = (uint32_t)((uintptr_t)e->pairs + PAIR_SPARE);
}

int emit_init(struct vcpu *v)
{
    struct emit_cache *e = calloc(1, sizeof(*e));
    size_t size = align_up(v->code_limit / 3, 2 * CODE_STEP);
    int r;

    if (!e) {
        return -ENOMEM;
    }
    v->emit = e;
    e->has_bmi2 = host_has_bmi2();
    e->is_verified = verify_is_wanted();
    e->pairs = mmap(NULL, PAIR_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (e->pairs == MAP_FAILED) {
        emit_fini(v);
        return -ENOMEM;
    }
    r = code_view_open(&e->view, "ec1-translated", size > CODE_BYTES ? size : CODE_BYTES);
    if (r == 0) {
        size_t cold_bytes = e->view.size / 2; /* for what rarely runs */
        uint8_t *cold = e->view.rw + e->view.size - cold_bytes;

        e->buf = (struct asm_buf){.start = e->view.rw, .at = e->view.rw, .end = cold};
        e->cold = (struct asm_buf){.start = cold, .at = cold, .end = cold + cold_bytes};
        r = emit_stubs(e);
        emit_forget_indirect(v);
        init_pairs(v);
    }
    if (r < 0) {
        emit_fini(v);
    }
    return r;
}

bool emit_is_verified(const struct vcpu *v)
{
    return v->emit && v->emit->is_verified;
}

void emit_fini(struct vcpu *v)
{
    if (v->emit) {
        code_view_close(&v->emit->view);
        if (v->emit->pairs && v->emit->pairs != MAP_FAILED) {
            (void)munmap(v->emit->pairs, PAIR_BYTES);
        }
        free(v->emit);
        v->emit = NULL;
    }
}
