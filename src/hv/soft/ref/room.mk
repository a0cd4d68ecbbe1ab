# Handlers end in tail calls (op.h) where the compiler is sure to make them.
ifeq ($(MODE),release)
ROOM_CFLAGS_hv-soft-ref += -DOP_THREADED -foptimize-sibling-calls
endif
