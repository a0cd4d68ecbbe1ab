/* decode_test.c — hand-written vectors for what decoders get wrong, and the speed. */
#include <time.h>

#include "base/bits.h"
#include "hv/soft/isa/forms.h"
#include "hv/soft/isa/insn.h"
#include "tests/lib/test.h"

#define M16 INSN_MODE_16
#define M32 INSN_MODE_32
#define M64 INSN_MODE_64

/* What insn_print() says, or why there is no instruction.  pc is 0x1000. */
struct vector {
    enum insn_mode mode;
    const char *bytes; /* hexadecimal */
    const char *text;
};

static const char undefined[] = "#UD";
static const char more[] = "more";
static const char too_long[] = "too long";

static const struct vector vectors[] = {
    /* 90 and its relatives */
    {M64, "90", "nop"},
    {M64, "6690", "nop"},
    {M64, "4890", "nop"},
    {M64, "4190", "xchg r8d, eax"},
    {M64, "4990", "xchg r8, rax"},
    {M64, "f390", "pause"},
    {M64, "f34190", "xchg r8d, eax"},
    {M32, "91", "xchg ecx, eax"},
    /* byte registers with and without REX */
    {M64, "88e0", "mov al, ah"},
    {M64, "4088e0", "mov al, spl"},
    {M64, "4488e0", "mov al, r12b"},
    {M64, "b701", "mov bh, 0x1"},
    {M64, "40b701", "mov dil, 0x1"},
    {M64, "0fb6fc", "movzx edi, ah"},
    /* REX counts only right before the opcode */
    {M64, "486689d8", "mov ax, bx"},
    {M64, "664889d8", "mov rax, rbx"},
    {M64, "484089d8", "mov eax, ebx"},
    {M32, "40", "inc eax"},
    {M32, "4b", "dec ebx"},
    /* last of F2 and F3 wins; both go before 66 */
    {M64, "f2f30f10c1", "movss xmm0, xmm1"},
    {M64, "f3f20f10c1", "movsd xmm0, xmm1"},
    {M64, "66f20f10c1", "movsd xmm0, xmm1"},
    {M64, "660f10c1", "movupd xmm0, xmm1"},
    {M64, "f30f28c1", undefined},
    {M64, "f30fb8c1", "popcnt eax, ecx"},
    {M64, "66f30fb8c1", "popcnt ax, cx"},
    {M64, "0fb8c1", undefined},
    {M64, "f30fbcc1", "tzcnt eax, ecx"},
    {M64, "f20fbcc1", "bsf eax, ecx"},
    {M64, "f30fbdc1", "lzcnt eax, ecx"},
    {M64, "480fbdc1", "bsr rax, rcx"},
    {M64, "f20f38f0c1", "crc32 eax, cl"},
    {M64, "66f20f38f1c1", "crc32 eax, cx"},
    {M64, "f2480f38f1c1", "crc32 rax, rcx"},
    {M64, "0f38f001", "movbe eax, m32 [rcx]"},
    {M64, "660f38f101", "movbe m16 [rcx], ax"},
    /* segments */
    {M64, "2e8b00", "mov eax, m32 [rax]"},
    {M64, "642e8b00", "mov eax, m32 fs:[rax]"},
    {M64, "64658b00", "mov eax, m32 gs:[rax]"},
    {M32, "2e8b00", "mov eax, m32 cs:[eax]"},
    /* LOCK */
    {M64, "f00100", "lock add m32 [rax], eax"},
    {M64, "f001c0", undefined},
    {M64, "f00300", undefined},
    {M64, "f03900", undefined},
    {M64, "f08900", undefined},
    {M64, "f08700", "lock xchg m32 [rax], eax"},
    {M64, "f00fa300", undefined},
    {M64, "f00fab00", "lock bts m32 [rax], eax"},
    {M64, "f0480fc708", "lock cmpxchg16b m128 [rax]"},
    {M64, "f090", undefined},
    /* default and forced sizes */
    {M64, "50", "push rax"},
    {M64, "6650", "push ax"},
    {M64, "664850", "push rax"},
    {M64, "6aff", "push -0x1"},
    {M64, "ff30", "push m64 [rax]"},
    {M64, "66e801000000", "call 0x1007"},
    {M32, "66e80100", "call 0x1005"},
    {M64, "ffe0", "jmp_ind rax"},
    {M64, "66ffe0", "jmp_ind rax"},
    {M64, "c20800", "ret 0x8"},
    {M64, "48ed", "in eax, dx"},
    {M64, "6648ed", "in eax, dx"},
    {M64, "66ed", "in ax, dx"},
    {M64, "486d", "ins32"},
    {M64, "48a5", "movs64"},
    {M64, "f366a5", "rep movs16"},
    {M64, "cf", "iret"},
    {M64, "48cb", "retf"},
    {M64, "c8341205", "enter 0x1234, 5"},
    /* gone in 64-bit mode */
    {M64, "06", undefined},
    {M64, "60", undefined},
    {M64, "ce", undefined},
    {M64, "d41a", undefined},
    {M64, "82c000", undefined},
    {M64, "9a00000000", undefined},
    {M64, "c501", more},
    {M64, "c401", more},
    {M64, "6200", more},
    {M64, "8fc8", undefined},
    {M32, "c501", "lds eax, m48 [ecx]"},
    {M32, "c5f877", "vzeroupper"},
    {M32, "6201", "bound eax, m64 [ecx]"},
    {M32, "62f1", more},
    {M32, "63d8", "arpl ax, bx"},
    {M64, "4863d8", "movsxd rbx, eax"},
    {M32, "ea785634120800", "jmp_far 0x8:0x12345678"},
    {M16, "ea34120010", "jmp_far 0x1000:0x1234"},
    {M16, "66ea785634120800", "jmp_far 0x8:0x12345678"},
    {M64, "48ff28", "jmp_far m80 [rax]"},
    {M64, "ff28", "jmp_far m48 [rax]"},
    {M64, "ffe8", undefined},
    {M64, "ff38", undefined},
    /* addresses */
    {M64, "8b0510000000", "mov eax, m32 [rip+0x10]"},
    {M64, "678b0510000000", "mov eax, m32 [eip+0x10]"},
    {M32, "8b0510000000", "mov eax, m32 [0x10]"},
    {M64, "8b042500000080", "mov eax, m32 [-0x80000000]"},
    {M64, "8b0424", "mov eax, m32 [rsp]"},
    {M64, "428b0420", "mov eax, m32 [rax+r12*1]"},
    {M64, "418b0424", "mov eax, m32 [r12]"},
    {M64, "418b4500", "mov eax, m32 [r13]"},
    {M64, "67418b042500000020", "mov eax, m32 [0x20000000]"},
    {M64, "8b4480f0", "mov eax, m32 [rax+rax*4-0x10]"},
    {M64, "48a18877665544332211", "mov rax, m64 [0x1122334455667788]"},
    {M64, "67a178563412", "mov eax, m32 [0x12345678]"},
    {M16, "8b4002", "mov ax, m16 [bx+si*1+0x2]"},
    {M16, "8b4600", "mov ax, m16 [bp]"},
    {M16, "8b063412", "mov ax, m16 [0x1234]"},
    {M16, "66678b0424", "mov eax, m32 [esp]"},
    {M16, "0f2017", "mov_from_cr edi, cr2"},
    {M16, "0f01163412", "lgdt m48 [0x1234]"},
    {M32, "678b00", "mov eax, m32 [bx+si*1]"},
    /* VEX */
    {M64, "c5fc58c1", "vaddps ymm0, ymm0, ymm1"},
    {M64, "c4c17c58c1", "vaddps ymm0, ymm0, ymm9"},
    {M64, "66c5fc58c1", undefined},
    {M64, "40c5fc58c1", undefined},
    {M64, "f0c5fc5801", undefined},
    {M64, "482ec5fc58c1", "vaddps ymm0, ymm0, ymm1"},
    {M64, "c5c877", undefined}, /* vvvv names nothing */
    {M64, "c4e37d4ac150", "vblendvps ymm0, ymm0, ymm1, ymm5"},
    {M64, "c4e26992440805", "vgatherdps xmm0, m32 [rax+xmm1*1+0x5], xmm2"},
    {M64, "c4e2f8f2c1", "andn rax, rax, rcx"},
    {M32, "c4e2f8f2c1", "andn eax, eax, ecx"},
    {M32, "c4e1fb92c1", "kmovd k0, ecx"},
    {M32, "c4e33904c000", undefined}, /* vvvv again, all of it */
    {M64, "c4e27cf2c1", undefined},   /* L is not 0 */
    {M64, "c4e2fd18c1", undefined},   /* W is not 0 */
    {M64, "c4e1f96ec1", "vmovd xmm0, rcx"},
    /* EVEX */
    {M64, "62f17c4858c1", "vaddps zmm0, zmm0, zmm1"},
    {M64, "62817c4058ff", "vaddps zmm23, zmm16, zmm31"},
    {M64, "62f17cc95801", "vaddps zmm0{k1}{z}, zmm0, m512 [rcx]"},
    {M64, "62f17cc85801", undefined}, /* zeroing without a mask */
    {M64, "62f17cc91101", undefined}, /* zeroing of memory */
    {M64, "62f17c48584101", "vaddps zmm0, zmm0, m512 [rcx+0x40]"},
    {M64, "62f17c58584101", "vaddps zmm0, zmm0, m32 [rcx+0x4] {1to16}"},
    {M64, "62f17c3858c1", "vaddps zmm0, zmm0, zmm1 {rd-sae}"},
    {M64, "62f17e6858c1", undefined}, /* L'L = 3 */
    {M64, "62f27d498b4101", "vpcompressd m512 [rcx+0x4]{k1}, zmm0"},
    {M64, "62f27d4992040a", "vgatherdps zmm0{k1}, m32 [rdx+zmm1*1]"},
    {M64, "62f27d48920408", undefined}, /* needs a mask */
    {M64, "62f17c49c2c902", "vcmpps k1{k1}, zmm0, zmm1, 0x2"},
    {M64, "62717c48c2c902", undefined}, /* there is no k9 */
    {M64, "62f4fd48ffff", undefined},   /* there is no map 4 */
    /* immediates */
    {M64, "4881c000000080", "add rax, -0x80000000"},
    {M64, "6683c0ff", "add ax, -0x1"},
    {M64, "48b88877665544332211", "mov rax, 0x1122334455667788"},
    {M64, "48c7c0ffffffff", "mov rax, -0x1"},
    {M64, "f6c880", "test al, -0x80"},
    {M64, "48f7c801000000", "test rax, 0x1"},
    {M64, "66f7c80100", "test ax, 0x1"},
    {M64, "d1e0", "shl eax, 0x1"},
    {M64, "d3f0", "shl eax, cl"},
    {M64, "6bc3f0", "imul eax, ebx, -0x10"},
    {M64, "cdff", "int 0xff"},
    {M64, "f10f", "int1"},
    /* system */
    {M64, "0f22c0", "mov_to_cr cr0, rax"},
    {M64, "0f2200", "mov_to_cr cr0, rax"},
    {M64, "440f20c0", "mov_from_cr rax, cr8"},
    {M64, "0f22c8", undefined},
    {M64, "0f21f8", "mov_from_dr rax, dr7"},
    {M64, "440f21c0", undefined},
    {M64, "8ed8", "mov_to_sreg ds, ax"},
    {M64, "8ec8", undefined},
    {M64, "8cc8", "mov_from_sreg eax, cs"},
    {M64, "8c08", "mov_from_sreg m16 [rax], cs"},
    {M64, "8ef0", undefined},
    {M64, "0f01f8", "swapgs"},
    {M32, "0f01f8", undefined},
    {M64, "0f01f9", "rdtscp"},
    {M64, "0f01d0", "xgetbv"},
    {M64, "0f01ee", undefined},
    {M64, "0f013b", "invlpg [rbx]"},
    {M64, "0f0113", "lgdt m80 [rbx]"},
    {M64, "660f38820b", "invpcid rcx, m128 [rbx]"},
    {M64, "f3480faed0", "wrfsbase rax"},
    {M32, "f30faed0", undefined},
    {M64, "f30fc7f8", "rdpid rax"},
    {M64, "0fc7f0", "rdrand eax"},
    {M64, "0faee8", "lfence"},
    {M64, "0fae38", "clflush m8 [rax]"},
    {M64, "660fae30", "clwb m8 [rax]"},
    {M64, "0faaff", undefined},
    {M64, "0f0b", "ud2"},
    /* hints */
    {M64, "f30f1efa", "nop edx, edi"},
    {M64, "0f1f440000", "nop [rax+rax*1], eax"},
    {M64, "0f1808", "prefetch [rax]"},
    {M64, "0f1820", "nop [rax]"},
    {M64, "0f0d08", "prefetch [rax]"},
    /* lengths of memory operands */
    {M64, "0f12c1", "movhlps xmm0, xmm1"},
    {M64, "0f1201", "movlps xmm0, m64 [rcx]"},
    {M64, "660f12c1", undefined},
    {M64, "f3480f2d01", "cvtss2si rax, m32 [rcx]"},
    {M64, "660f3a200105", "pinsrb xmm0, m8 [rcx], 0x5"},
    {M64, "660f383001", "pmovzxbw xmm0, m64 [rcx]"},
    {M64, "660f382201", "pmovsxbq xmm0, m16 [rcx]"},
    {M64, "0f6001", "punpcklbw mm0, m32 [rcx]"},
    {M64, "660f6001", "punpcklbw xmm0, m128 [rcx]"},
    {M64, "66480f6ec0", "movd xmm0, rax"},
    {M64, "66440f7ec0", "movd eax, xmm8"},
    {M64, "0f73d802", undefined},
    {M64, "660f73d802", "psrldq xmm0, 0x2"},
    {M64, "d9ff", "fcos"},
    {M64, "dd28", undefined},
    {M64, "db28", "fld m80 [rax]"},
    {M64, "dbe8", "fucomi st0, st0"},
    {M64, "c5f8ae10", "vldmxcsr m32 [rax]"},
    /* lengths of instructions */
    {M64, "", more},
    {M64, "48", more},
    {M64, "0f", more},
    {M64, "0f38", more},
    {M64, "8b", more},
    {M64, "8b04", more},
    {M64, "8b0425000000", more},
    {M64, "48b800000000000000", more},
    {M64, "6666666666666666666666666666", more},
    {M64, "666666666666666666666666666690", "nop"},
    {M64, "66666666666666666666666666666690", too_long},
    {M64, "666666666666666666666666666666", too_long},
    {M64, "666666666666810425000000000000", "add m16 [0x0], 0x0"},
    {M64, "2e2e2e2e8104250000000000000000", "add m32 [0x0], 0x0"},
    {M64, "2e2e2e2e2e8104250000000000000000", too_long},
};

static size_t parse_hex(const char *hex, uint8_t *bytes)
{
    size_t n;
    unsigned value;

    for (n = 0; hex[2 * n]; n++) {
        CHECK_INT(sscanf(hex + 2 * n, "%2x", &value), 1);
        bytes[n] = (uint8_t)value;
    }
    return n;
}

static const char *describe(const struct vector *v, char text[static 96])
{
    uint8_t bytes[32];
    size_t size = parse_hex(v->bytes, bytes);
    struct insn insn;

    switch (insn_decode(bytes, size, v->mode, &insn)) {
    case INSN_OK: return insn_print(&insn, 0x1000, text);
    case INSN_MORE: return more;
    case INSN_UNDEFINED: return undefined;
    case INSN_TOO_LONG: return too_long;
    }
    return "?";
}

TEST(isa, vectors_decode_as_written)
{
    unsigned i, failed = 0;
    char text[96];

    for (i = 0; i < ARRAY_LEN(vectors); i++) {
        const char *got = describe(&vectors[i], text);

        if (strcmp(got, vectors[i].text) != 0) {
            print_error("%s: '%s', want '%s'\n", vectors[i].bytes, got, vectors[i].text);
            failed++;
        }
    }
    CHECK_INT(failed, 0);
}

static struct insn decoded(const char *hex)
{
    uint8_t bytes[32];
    size_t size = parse_hex(hex, bytes);
    struct insn insn;

    CHECK_INT(insn_decode(bytes, size, INSN_MODE_64, &insn), INSN_OK);
    CHECK_INT(insn.len, size);
    return insn;
}

TEST(isa, says_where_the_parts_are)
{
    struct insn insn = decoded("664281842078563412cdab");

    CHECK_INT(insn.prefix_len, 2);
    CHECK_INT(insn.modrm_at, 3);
    CHECK_INT(insn.disp_at, 5);
    CHECK_INT(insn.disp_len, 4);
    CHECK_INT(insn.imm_at, 9);
    CHECK_INT(insn.imm_len, 2);
    CHECK_INT(insn.opsize, 2);
    CHECK_INT(insn.rex, 0x42);
}

TEST(isa, says_how_memory_is_used)
{
    static const struct {
        const char *hex;
        uint8_t access, align, seg;
    } cases[] = {
        {"0101", 3, 0, 3},
        {"0301", 1, 0, 3},
        {"8901", 2, 0, 3},
        {"3901", 1, 0, 3},
        {"8d01", 0, 0, 3},
        {"0f1f00", 0, 0, 3},
        {"0f2801", 1, 16, 3},
        {"0f1001", 1, 0, 3},
        {"0f2901", 2, 16, 3},
        {"0f1101", 2, 0, 3},
        {"f30f1001", 1, 0, 3},
        {"660f3a630100", 1, 0, 3},
        {"f20ff001", 1, 0, 3},
        {"0fae01", 2, 16, 3},
        {"0fae21", 3, 64, 3},
        {"480fc709", 3, 16, 3},
        {"a30000000000000000", 2, 0, 3},
        {"8b0424", 1, 0, 2},
        {"8b4500", 1, 0, 2},
        {"418b4500", 1, 0, 3},
        {"64a5", 0, 0, 4},
        {"658b0424", 1, 0, 5},
        {"0fc101", 3, 0, 3},
    };
    unsigned i;

    for (i = 0; i < ARRAY_LEN(cases); i++) {
        struct insn insn = decoded(cases[i].hex);

        if (insn.mem_access != cases[i].access || insn.mem_align != cases[i].align ||
            insn.seg != cases[i].seg) {
            print_error("%s: access %d align %d seg %d\n", cases[i].hex, insn.mem_access,
                        insn.mem_align, insn.seg);
            fail();
        }
    }
}

/* Whatever the bytes, a shorter view of them says MORE and never something else. */
TEST(isa, prefixes_of_an_instruction_ask_for_more)
{
    static const uint8_t bytes[] = {0x66, 0x2e, 0x4b, 0x81, 0x84, 0xa5, 1, 2, 3, 4, 5, 6, 7, 8};
    struct insn insn;
    size_t n;

    CHECK_INT(insn_decode(bytes, sizeof(bytes), INSN_MODE_64, &insn), INSN_OK);
    for (n = 0; n < insn.len; n++) {
        struct insn part;

        CHECK_INT(insn_decode(bytes, n, INSN_MODE_64, &part), INSN_MORE);
    }
}

TEST(isa, every_operation_has_a_name_and_a_form)
{
    bool seen[INSN_OP_COUNT] = {false};
    unsigned op, i;

    for (i = 0; i < INSN_MAP_COUNT * 256; i++) {
        const struct insn_form *form = &insn_form[insn_opcode[i].first];

        for (; form->op != INSN_INVALID; form++) {
            seen[form->op] = true;
        }
    }
    for (op = INSN_INVALID + 1; op < INSN_OP_COUNT; op++) {
        if (!seen[op]) {
            print_error("%s has no form\n", insn_op_name((enum insn_op)op));
            fail();
        }
    }
    CHECK_STR(insn_op_name(INSN_CMPXCHG16B), "CMPXCHG16B");
    CHECK_STR(insn_op_name((enum insn_op)INSN_OP_COUNT), "?");
}

TEST(isa, decoding_is_fast)
{
    static const char code[] = "5548895d1048897c24084c8b05100000000f1044240866410f6f0c24"
                               "0fb6c085c074104883c4205dc3e800000000f30f1efa4829d8";
    uint8_t bytes[80];
    size_t size = parse_hex(code, bytes), at;
    unsigned i, count = 0;
    struct timespec a, b;
    struct insn insn;
    double ns;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (i = 0; i < 20000; i++) {
        for (at = 0; at < size; at += insn.len, count++) {
            CHECK_INT(insn_decode(bytes + at, size - at, INSN_MODE_64, &insn), INSN_OK);
        }
    }
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    ns = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
    print_message("%.1f ns per instruction\n", ns / count);
    CHECK(ns / count < 2000); /* sanitizers and a busy machine included */
}
