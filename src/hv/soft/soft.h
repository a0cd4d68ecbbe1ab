/* soft.h — the software engine as a backend of hv.h. */
#pragma once

#include "hv/hv.h"

extern const struct hv_ops hv_soft_ops;
