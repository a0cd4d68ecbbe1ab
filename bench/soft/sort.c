/* sort.c — integer kernels that compare and branch: quicksort, binary tree, bytecode interpreter,
 * calls. */
#include "bench/soft/row.h"

/* --- quicksort with a callback --- */

#define SORT_COUNT 16384

static uint32_t g_unsorted[SORT_COUNT], g_sorted[SORT_COUNT];

typedef int (*compare_fn)(const uint32_t *a, const uint32_t *b);

static NOINLINE int compare_up(const uint32_t *a, const uint32_t *b)
{
    return (*a > *b) - (*a < *b);
}

static NOINLINE int compare_scrambled(const uint32_t *a, const uint32_t *b)
{
    uint32_t x = *a * 2654435761u;
    uint32_t y = *b * 2654435761u;

    return (x > y) - (x < y);
}

static NOINLINE void quicksort(uint32_t *v, long left, long right, compare_fn compare)
{
    while (left < right) {
        long i = left;
        long j = right;
        uint32_t pivot = v[left + (right - left) / 2];

        while (i <= j) {
            while (compare(&v[i], &pivot) < 0) {
                i++;
            }
            while (compare(&v[j], &pivot) > 0) {
                j--;
            }
            if (i <= j) {
                uint32_t t = v[i];

                v[i++] = v[j];
                v[j--] = t;
            }
        }
        if (j - left < right - i) {
            quicksort(v, left, j, compare);
            left = i;
        } else {
            quicksort(v, i, right, compare);
            right = j;
        }
    }
}

static void sort_setup(void)
{
    uint64_t seed = 1;

    for (unsigned i = 0; i < SORT_COUNT; i++) {
        g_unsorted[i] = (uint32_t)(rng_next(&seed) >> 32);
    }
}

static uint64_t sort_run(uint64_t ops)
{
    uint64_t sum = 0;

    for (uint64_t n = 0; n < ops; n++) {
        for (unsigned i = 0; i < SORT_COUNT; i++) {
            g_sorted[i] = g_unsorted[i];
        }
        quicksort(g_sorted, 0, SORT_COUNT - 1, n & 1 ? compare_scrambled : compare_up);
        for (unsigned i = 0; i < SORT_COUNT; i += 61) {
            sum = mix(sum, g_sorted[i]);
        }
    }
    return sum;
}

/* --- binary tree --- */

#define TREE_COUNT 8192

struct node {
    uint32_t key;
    uint32_t hits;
    struct node *left, *right;
};

static struct node g_node[TREE_COUNT];

static NOINLINE struct node *tree_insert(struct node *root, struct node *node)
{
    struct node **at = &root;

    while (*at) {
        at = node->key < (*at)->key ? &(*at)->left : &(*at)->right;
    }
    *at = node;
    return root;
}

static NOINLINE struct node *tree_find(struct node *node, uint32_t key)
{
    while (node && node->key != key) {
        node = key < node->key ? node->left : node->right;
    }
    return node;
}

static uint64_t tree_run(uint64_t ops)
{
    struct node *root = NULL;
    uint64_t seed = 2;
    uint64_t sum = 0;

    for (unsigned i = 0; i < TREE_COUNT; i++) {
        g_node[i] = (struct node){.key = (uint32_t)(rng_next(&seed) >> 32)};
        root = tree_insert(root, &g_node[i]);
    }
    for (uint64_t n = 0; n < ops; n++) {
        struct node *found = tree_find(root, g_node[rng_next(&seed) % TREE_COUNT].key + (n & 1));

        if (found) {
            sum = mix(sum, found->key + found->hits++);
        }
    }
    return sum;
}

/* --- bytecode interpreter: one indirect jump per bytecode --- */

enum bytecode {
    B_PUSH,
    B_ADD,
    B_XOR,
    B_MUL,
    B_DUP,
    B_SWAP,
    B_ROT,
    B_JNZ,
    B_DEC,
    B_LOAD,
    B_STORE,
    B_END
};

/* A loop over a few registers in `memory`; its counter is memory[0]. */
static const uint8_t g_program[] = {
    B_LOAD, 1,     B_PUSH,  17, B_MUL,  B_LOAD, 2,       B_ADD, B_DUP,   B_STORE,
    1,      B_ROT, B_LOAD,  3,  B_XOR,  B_PUSH, 5,       B_ADD, B_STORE, 2,
    B_LOAD, 1,     B_LOAD,  2,  B_SWAP, B_XOR,  B_STORE, 3,     B_LOAD,  0,
    B_DEC,  B_DUP, B_STORE, 0,  B_JNZ,  0,      B_END,
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic" /* jumps to computed labels are GNU C */
static NOINLINE uint64_t interpret(const uint8_t *code, uint64_t *memory)
{
    static const void *const label[] = {&&push, &&add, &&xor, &&mul,  &&dup,   &&swap,
                                        &&rot,  &&jnz, &&dec, &&load, &&store, &&end};
    uint64_t stack[64];
    uint64_t *sp = stack + 1; /* one below the first, for `rot` */
    const uint8_t *pc = code;

    stack[0] = 3;
#define NEXT goto *label[*pc++]
    NEXT;
push:
    *++sp = *pc++;
    NEXT;
add:
    sp[-1] += sp[0];
    sp--;
    NEXT;
    xor : sp[-1] ^= sp[0];
    sp--;
    NEXT;
mul:
    sp[-1] *= sp[0];
    sp--;
    NEXT;
dup:
    sp[1] = sp[0];
    sp++;
    NEXT;
swap : {
    uint64_t t = sp[0];

    sp[0] = sp[-1];
    sp[-1] = t;
    NEXT;
}
rot:
    sp[0] = sp[0] << 7 | sp[0] >> 57;
    NEXT;
jnz:
    pc = *sp-- ? code + *pc : pc + 1;
    NEXT;
dec:
    sp[0]--;
    NEXT;
load:
    *++sp = memory[*pc++];
    NEXT;
store:
    memory[*pc++] = *sp--;
    NEXT;
end:
#undef NEXT
    return mix(mix(memory[1], memory[2]), memory[3]);
}
#pragma GCC diagnostic pop

static uint64_t bytecode_run(uint64_t ops)
{
    uint64_t memory[4] = {ops, 1, 2, 3};

    return interpret(g_program, memory);
}

/* --- calls --- */

static NOINLINE uint64_t fib(uint64_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t fib_run(uint64_t ops)
{
    uint64_t sum = 0;

    for (uint64_t n = 0; n < ops; n++) {
        sum = mix(sum, fib(24 + (n & 1)));
    }
    return sum;
}

const struct row rows_sort[] = {
    {.name = "quicksort", .ops = 12, .setup = sort_setup, .run = sort_run},
    {.name = "tree", .ops = 200000, .run = tree_run},
    {.name = "bytecode", .ops = 300000, .run = bytecode_run},
    {.name = "fib", .ops = 100, .run = fib_run},
    {0},
};
