# toolchain.mk — compilers, libraries, and where output goes.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

ifeq ($(origin CC),default)
CC := gcc
endif
IS_CLANG := $(findstring clang,$(notdir $(CC)))

O := build$(if $(IS_CLANG),/clang)$(if $(filter-out release,$(MODE)),/$(MODE))

PKGS := libnghttp2 libprotobuf-c jansson zlib libzstd liblz4 liblzma libarchive liburing libcrypto
# lwIP has no pkg-config file.
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null) -isystem /usr/include/lwip
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lbz2 -llzo2 -lcap -lseccomp -llwip -lpthread

# Random tests are the same each time, so that a failure is the change's; EC1_SEED=n asks for others.
EC1_SEED ?= 1
export EC1_SEED
