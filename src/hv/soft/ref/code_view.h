/* code_view.h — memory for generated code: one view to write, another one to execute. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct code_view {
    uint8_t *rw, *rx;
    size_t size;
};

/* 0 or a negative errno; ended in either case by code_view_close(). */
int code_view_open(struct code_view *view, const char *name, size_t size);
void code_view_close(struct code_view *view);
