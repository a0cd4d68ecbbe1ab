/* native_stub.c — make executable stubs that run one SIMD or x87 instruction on a guest's state.
 *
 * Theory of operation.  A stub is a function (struct vcpu *in RDI, host address of the memory
 * operand in RSI).  It loads what the instruction reads from struct vcpu, contains the instruction
 * with its operands renamed, and stores what it wrote:
 *   - vector registers keep their numbers, all of them belong to the caller anyway;
 *   - a general register in ModRM.reg becomes RAX, in ModRM.rm RCX;
 *   - a memory operand becomes [RSI].
 * The guest's bytes are never run: prefixes, ModRM and immediates are written anew from struct
 * insn. Stubs are written through one view of a memfd and executed through another; equal code is
 * shared.
 */
#include "hv/soft/ref/native_stub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/soft/cpu/fpu.h"
#include "hv/soft/ref/code_view.h"
#include "hv/soft/ref/native.h"
#include "hv/soft/ref/native_stub_int.h"

#define VIEW_BYTES   (16u << 20)
#define BUCKET_COUNT 4096u

struct stub {
    struct stub *next;
    uint32_t offset;
    uint32_t len;
};

struct native_cache {
    struct code_view view;
    size_t used;
    bool has_zmm; /* the guest sees AVX-512 */
    struct stub *bucket[BUCKET_COUNT];
};

/* --- emitting --- */

/* MOVUPS xmm, [rdi+off] or back. */
static void emit_xmm(struct code *c, bool is_store, unsigned reg)
{
    if (reg >= 8) {
        EMIT(c, 0x44);
    }
    EMIT(c, 0x0f, is_store ? 0x11 : 0x10, (uint8_t)(0x87 | (reg & 7) << 3));
    emit32(c, offsetof(struct vcpu, xsave) + FPU_XMM0 + 16u * reg);
}

/* MOV host, [rdi+off of guest] or back; host is RAX, RCX or RDX. */
void stub_gpr(struct code *c, bool is_store, unsigned host, unsigned guest)
{
    EMIT(c, 0x48, is_store ? 0x89 : 0x8b, (uint8_t)(0x87 | host << 3));
    emit32(c, offsetof(struct vcpu, gpr) + 8u * (guest & 15));
}

/* Arithmetic flags from or to v->aflags, by way of AX. */
static void emit_flags_in(struct code *c)
{
    EMIT(c, 0x66, 0x8b, 0x87); /* mov ax, [rdi+off] */
    emit32(c, offsetof(struct vcpu, aflags));
    EMIT(c, 0x04, 0x7f, 0x9e); /* add al, 0x7f; sahf */
}

void stub_flags_out(struct code *c)
{
    EMIT(c, 0x9f, 0x0f, 0x90, 0xc0, 0x66, 0x89, 0x87); /* lahf; seto al; mov [rdi+off], ax */
    emit32(c, offsetof(struct vcpu, aflags));
}

/* FXSAVE64 (/0) or FXRSTOR64 (/1) of the image. */
static void emit_fx(struct code *c, unsigned digit)
{
    EMIT(c, 0x48, 0x0f, 0xae, (uint8_t)(0x87 | digit << 3));
    emit32(c, offsetof(struct vcpu, xsave));
}

/* --- what an instruction names --- */

static bool gpr_is_in_reg_field(const struct insn *insn)
{
    /* CVT(T)S?2SI, MOVMSKP?, PEXTRW, PMOVMSKB */
    return insn->map == 1 && (insn->opcode == 0x2c || insn->opcode == 0x2d ||
                              insn->opcode == 0x50 || insn->opcode == 0xc5 || insn->opcode == 0xd7);
}

bool native_defines_flags(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_COMISS:
    case INSN_COMISD:
    case INSN_UCOMISS:
    case INSN_UCOMISD:
    case INSN_PTEST:
    case INSN_PCMPESTRI:
    case INSN_PCMPESTRM:
    case INSN_PCMPISTRI:
    case INSN_PCMPISTRM:
    case INSN_FCOMI:
    case INSN_FCOMIP:
    case INSN_FUCOMI:
    case INSN_FUCOMIP: return true;
    default: return false;
    }
}

static bool uses_xmm0(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_BLENDVPS:
    case INSN_BLENDVPD:
    case INSN_PBLENDVB:
    case INSN_SHA256RNDS2:
    case INSN_PCMPESTRM:
    case INSN_PCMPISTRM: return true;
    default: return false;
    }
}

static bool is_explicit_compare(const struct insn *insn)
{
    return insn->op == INSN_PCMPESTRI || insn->op == INSN_PCMPESTRM;
}

static bool is_index_compare(const struct insn *insn)
{
    return insn->op == INSN_PCMPESTRI || insn->op == INSN_PCMPISTRI;
}

/* --- the instruction itself --- */

static void emit_insn(struct code *c, const struct insn *insn, bool has_gpr)
{
    bool is_mem = insn->has_modrm && insn->modrm < 0xc0;
    bool is_reg_gpr = has_gpr && gpr_is_in_reg_field(insn);
    uint8_t rex = insn->rex & 0x0d, modrm = insn->modrm;

    if (is_reg_gpr) {
        modrm &= 0xc7;
        rex &= 0x0b;
    }
    if (is_mem) {
        modrm = (uint8_t)((modrm & 0x38) | 6);
        rex &= 0x0e;
    } else if (has_gpr && !is_reg_gpr) {
        modrm = (uint8_t)((modrm & 0xf8) | 1);
        rex &= 0x0e;
    }
    if (insn->has_66) {
        EMIT(c, 0x66);
    }
    if (insn->rep) {
        EMIT(c, insn->rep);
    }
    if (rex) {
        EMIT(c, (uint8_t)(0x40 | rex));
    }
    if (insn->map) {
        EMIT(c, 0x0f);
    }
    if (insn->map >= 2) {
        EMIT(c, insn->map == 2 ? 0x38 : 0x3a);
    }
    EMIT(c, insn->opcode);
    if (insn->has_modrm) {
        EMIT(c, modrm);
    }
    if (insn->imm_len) {
        EMIT(c, (uint8_t)insn->imm);
    }
}

static const struct insn_operand *find_gpr(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_GPR) {
            return &insn->operand[i];
        }
    }
    return NULL;
}

static void emit_loads(struct code *c, const struct insn *insn, const struct insn_operand *gpr)
{
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_XMM) {
            emit_xmm(c, false, insn->operand[i].reg);
        }
    }
    if (uses_xmm0(insn)) {
        emit_xmm(c, false, 0);
    }
    if (gpr) {
        stub_gpr(c, false, gpr_is_in_reg_field(insn) ? GPR_RAX : GPR_RCX, gpr->reg);
    }
    if (is_explicit_compare(insn)) {
        stub_gpr(c, false, GPR_RAX, GPR_RAX);
        stub_gpr(c, false, GPR_RDX, GPR_RDX);
    }
}

static void emit_stores(struct code *c, const struct insn *insn, const struct insn_operand *gpr)
{
    if (gpr && gpr == &insn->operand[0]) {
        stub_gpr(c, true, gpr_is_in_reg_field(insn) ? GPR_RAX : GPR_RCX, gpr->reg);
    }
    if (is_index_compare(insn)) {
        stub_gpr(c, true, GPR_RCX, GPR_RCX);
    }
    if (insn->operand_count && insn->operand[0].kind == INSN_XMM) {
        emit_xmm(c, true, insn->operand[0].reg);
    }
    if (uses_xmm0(insn)) {
        emit_xmm(c, true, 0);
    }
    if (native_defines_flags(insn)) {
        stub_flags_out(c);
    }
}

static void build_simd(struct code *c, const struct insn *insn)
{
    const struct insn_operand *gpr = find_gpr(insn);

    EMIT(c, 0xf3, 0x0f, 0x1e, 0xfa); /* endbr64 */
    emit_loads(c, insn, gpr);
    emit_insn(c, insn, gpr != NULL);
    emit_stores(c, insn, gpr);
    EMIT(c, 0xc3);
}

static void build_x87(struct code *c, const struct insn *insn)
{
    const struct insn_operand *gpr = find_gpr(insn);
    bool is_ax = insn->op == INSN_FNSTSW && gpr;

    EMIT(c, 0xf3, 0x0f, 0x1e, 0xfa); /* endbr64 */
    emit_fx(c, 1);
    if (gpr) {
        stub_gpr(c, false, is_ax || gpr_is_in_reg_field(insn) ? GPR_RAX : GPR_RCX, gpr->reg);
    }
    if (insn->op == INSN_FCMOVCC) {
        emit_flags_in(c);
    }
    emit_insn(c, insn, gpr && !is_ax);
    if (gpr && gpr == &insn->operand[0]) {
        stub_gpr(c, true, is_ax || gpr_is_in_reg_field(insn) ? GPR_RAX : GPR_RCX, gpr->reg);
    }
    if (native_defines_flags(insn)) {
        stub_flags_out(c);
    }
    emit_fx(c, 0);
    EMIT(c, 0xdb, 0xe3, 0xc3); /* fninit: the host's x87 as C expects it */
}

/* --- the cache --- */

static unsigned bucket_of(const struct code *c)
{
    uint32_t h = 2166136261u; /* FNV-1a */

    for (unsigned i = 0; i < c->len; i++) {
        h = (h ^ c->bytes[i]) * 16777619u;
    }
    return (h ^ h >> 16) % BUCKET_COUNT;
}

static native_fn entry(const struct native_cache *n, const struct stub *s)
{
    return (native_fn)(uintptr_t)(n->view.rx + s->offset);
}

static native_fn add(struct native_cache *n, const struct code *c, unsigned bucket)
{
    struct stub *s = calloc(1, sizeof(*s));

    if (!s || n->used + STUB_MAX > VIEW_BYTES) {
        free(s);
        return NULL;
    }
    *s = (struct stub){.next = n->bucket[bucket], .offset = (uint32_t)n->used, .len = c->len};
    memcpy(n->view.rw + n->used, c->bytes, c->len);
    n->used += (c->len + 15u) & ~15u;
    n->bucket[bucket] = s;
    return entry(n, s);
}

native_fn native_stub(struct native_cache *n, const struct insn *insn, bool with_x87)
{
    struct code c = {.len = 0};
    unsigned bucket;

    if (insn->encoding != INSN_LEGACY) {
        stub_build_avx(&c, insn, n->has_zmm);
    } else if (with_x87) {
        build_x87(&c, insn);
    } else {
        build_simd(&c, insn);
    }
    bucket = bucket_of(&c);
    for (const struct stub *s = n->bucket[bucket]; s; s = s->next) {
        if (s->len == c.len && memcmp(n->view.rw + s->offset, c.bytes, c.len) == 0) {
            return entry(n, s);
        }
    }
    return add(n, &c, bucket);
}

bool native_is_full(const struct vcpu *v)
{
    return v->native->used + (64u << 10) > VIEW_BYTES;
}

void native_clear(struct vcpu *v)
{
    struct native_cache *n = v->native;

    for (unsigned i = 0; i < BUCKET_COUNT; i++) {
        while (n->bucket[i]) {
            struct stub *next = n->bucket[i]->next;

            free(n->bucket[i]);
            n->bucket[i] = next;
        }
    }
    n->used = 0;
}

int native_init(struct vcpu *v)
{
    struct native_cache *n = calloc(1, sizeof(*n));
    int r;

    if (!n) {
        return -ENOMEM;
    }
    v->native = n;
    n->has_zmm = v->features & CPU_HAS(AVX512F);
    r = code_view_open(&n->view, "ec1-native", VIEW_BYTES);
    if (r < 0) {
        native_fini(v);
    }
    return r;
}

void native_fini(struct vcpu *v)
{
    struct native_cache *n = v->native;

    if (!n) {
        return;
    }
    native_clear(v);
    code_view_close(&n->view);
    free(n);
    v->native = NULL;
}
