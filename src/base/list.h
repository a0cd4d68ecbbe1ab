/* list.h — intrusive doubly linked list; the head is a node that points to itself while empty. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/bits.h"

struct list {
    struct list *next;
    struct list *prev;
};

static inline void list_init(struct list *head)
{
    head->next = head;
    head->prev = head;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

/* Put `node` at the end. */
static inline void list_append(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

/* Take `node` out; it is left empty, so that removing twice is harmless. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* Walk; the current node may be removed within the body. */
#define list_for_each(pos, head)                                                  \
    for (struct list *pos = (head)->next, *next_##pos = pos->next; pos != (head); \
         pos = next_##pos, next_##pos = pos->next)
