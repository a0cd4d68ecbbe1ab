/* tree_ids.c — numbers that a guest may hold for pointers that it may not: checked on the way back,
 * never used twice. */
#include <errno.h>
#include <stdlib.h>

#include "host/tree_int.h"

static int grow(struct tree_ids *ids)
{
    uint32_t cap = ids->cap ? ids->cap * 2 : 64;
    struct tree_slot *slots = realloc(ids->slots, cap * sizeof(*slots));

    if (!slots) {
        return -ENOMEM;
    }
    ids->slots = slots;
    ids->cap = cap;
    if (ids->count == 0) {
        slots[0] = (struct tree_slot){0};
        ids->count = 1;
    }
    return 0;
}

uint64_t tree_ids_add(struct tree_ids *ids, void *ptr)
{
    uint32_t index = ids->first_free;

    if (index) {
        ids->first_free = ids->slots[index].next_free;
    } else {
        if (ids->count == ids->cap && grow(ids) < 0) {
            return 0;
        }
        index = ids->count++;
        ids->slots[index].generation = 0;
    }
    ids->slots[index].ptr = ptr;
    return (uint64_t)ids->slots[index].generation << 32 | index;
}

void *tree_ids_get(const struct tree_ids *ids, uint64_t id)
{
    uint32_t index = (uint32_t)id; /* guest: any value */

    if (index >= ids->count || ids->slots[index].generation != id >> 32) {
        return NULL;
    }
    return ids->slots[index].ptr;
}

void tree_ids_del(struct tree_ids *ids, uint64_t id)
{
    struct tree_slot *slot = &ids->slots[(uint32_t)id];

    slot->ptr = NULL;
    if (slot->generation == UINT32_MAX) {
        return; /* retired: its numbers are used up */
    }
    slot->generation++;
    slot->next_free = ids->first_free;
    ids->first_free = (uint32_t)id;
}

void tree_ids_fini(struct tree_ids *ids)
{
    free(ids->slots);
    *ids = (struct tree_ids){0};
}
