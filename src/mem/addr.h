/* addr.h — guest addresses as types of their own, so that the compiler keeps them apart from each
 * other and from host pointers. */
#pragma once

#include <stdint.h>

/* Guest physical address. */
typedef struct {
    uint64_t v;
} gpa_t;

/* Guest virtual (linear) address. */
typedef struct {
    uint64_t v;
} gva_t;

#define GPA(x)           ((gpa_t){(x)})
#define GVA(x)           ((gva_t){(x)})
#define GUEST_PAGE_SHIFT 12
#define GUEST_PAGE_SIZE  UINT64_C(4096)
