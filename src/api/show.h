/* show.h — answers of the REST interface that have a body, as JSON. */
#pragma once

#include "base/buf.h"

struct api_call;
struct microvm;

void api_show_instance(struct api_call *call, const struct microvm *vm, struct buf *out);
void api_show_version(struct api_call *call, const struct microvm *vm, struct buf *out);
void api_show_machine(struct api_call *call, const struct microvm *vm, struct buf *out);
void api_show_config(struct api_call *call, const struct microvm *vm, struct buf *out);
void api_show_balloon(struct api_call *call, const struct microvm *vm, struct buf *out);
void api_show_balloon_stats(struct api_call *call, const struct microvm *vm, struct buf *out);
void api_show_hinting(struct api_call *call, const struct microvm *vm, struct buf *out);
void api_show_memory(struct api_call *call, const struct microvm *vm, struct buf *out);
void api_show_text(struct api_call *call, const struct microvm *vm, struct buf *out);
