/* aml.h — encode the little ACPI machine language that our DSDT needs (ACPI 6.5, chapter 20).
 *
 * Terms are appended to a buffer.  A term that contains others is opened with a mark and closed
 * with it, innermost first:
 *
 *     size_t mark = aml_open(out);
 *     ... terms ...
 *     aml_close_device(out, mark, "COM1");
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Name segments have four characters, padded with '_'. */
void aml_name_int(struct buf *out, const char *name, uint32_t value);
void aml_name_str(struct buf *out, const char *name, const char *value);
/* Name(name, Package() {a, b}) */
void aml_name_pair(struct buf *out, const char *name, uint32_t a, uint32_t b);

size_t aml_open(const struct buf *out);
void aml_close_scope(struct buf *out, size_t mark, const char *path);
void aml_close_device(struct buf *out, size_t mark, const char *name);
/* Method(name, argc, Serialized) { terms since `mark` } */
void aml_close_method(struct buf *out, size_t mark, const char *name, unsigned argc);
/* If (Arg0 == value) { Notify(name, notification) } */
void aml_notify_if_arg(struct buf *out, uint32_t value, const char *name, uint32_t notification);
/* Name(_CRS, ResourceTemplate() { descriptors since `mark` }) */
void aml_close_resources(struct buf *out, size_t mark);

/* Resource descriptors (ACPI 6.5, 6.4). */
void aml_memory32(struct buf *out, uint32_t start, uint32_t len);
void aml_io(struct buf *out, uint16_t start, uint8_t len);
/* Bus numbers that a bridge answers for. */
void aml_bus_range(struct buf *out, uint16_t first, uint16_t last);
/* A range of memory addresses that a bridge hands down; `start` + `len` do not wrap. */
void aml_memory_window(struct buf *out, uint64_t start, uint64_t len);
void aml_interrupt(struct buf *out, uint32_t line); /* edge, active high, exclusive */
