# flags.mk — how everything is compiled.

WARN := -Wall -Wextra -Wpedantic -Werror -Wshadow -Wundef -Wvla -Walloca -Wpointer-arith \
	-Wwrite-strings -Wcast-qual -Wcast-align -Wstrict-prototypes -Wmissing-prototypes \
	-Wold-style-definition -Wredundant-decls -Wformat=2 -Wnull-dereference \
	-Wimplicit-fallthrough -Wswitch-enum -Wdate-time -Wframe-larger-than=8192
ifdef IS_CLANG
ifneq ($(IS_CLANG),)
WARN += -Wcomma -Wconditional-uninitialized -Wunreachable-code-aggressive -Wassign-enum
endif
endif
ifeq ($(IS_CLANG),)
WARN += -Wduplicated-cond -Wduplicated-branches -Wlogical-op -Wjump-misses-init \
	-Wformat-signedness -Wtrampolines -Wimplicit-fallthrough=5
endif

BASE_FLAGS := -std=gnu17 -D_GNU_SOURCE -Isrc -I. -isystem $(O)/gen -g -fno-common -fstack-protector-strong
HARDEN := -D_FORTIFY_SOURCE=3 -fstack-clash-protection -fcf-protection=full

# EC1_INSTRUMENTED: the runtimes of sanitizers and coverage make system calls of their own (seccomp/allow.c).
ifeq ($(MODE),release)
MODE_CFLAGS := -O2 $(HARDEN) -fPIE
MODE_LDFLAGS := -pie -Wl,-z,relro,-z,now
else ifeq ($(MODE),san)
# Sanitizers bring their own checks of what these two warnings guess at.
MODE_CFLAGS := -DEC1_INSTRUMENTED -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
	-fPIE -Wno-null-dereference -Wframe-larger-than=65536 $(if $(IS_CLANG),,-Wno-format-truncation)
MODE_LDFLAGS := -fsanitize=address,undefined -pie
else ifeq ($(MODE),cov)
# -fprofile-update=atomic: vCPU and loop threads count at once.
MODE_CFLAGS := -DEC1_INSTRUMENTED -O1 --coverage -fprofile-update=atomic -fPIE -Wno-null-dereference \
	$(if $(IS_CLANG),,-Wno-format-truncation)
MODE_LDFLAGS := --coverage -pie
else
$(error MODE '$(MODE)': must be release, san or cov)
endif

CFLAGS_ALL = $(BASE_FLAGS) $(WARN) $(MODE_CFLAGS) $(PKG_CFLAGS) $(CFLAGS)
LDFLAGS_ALL = $(MODE_LDFLAGS) $(LDFLAGS)
