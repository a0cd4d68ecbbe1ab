# vm.mk — build/test/vm: small guests on either backend of hv/hv.h.  `make unit` runs it on the software
# engine, mk/blackbox.mk on KVM.

TEST_BINS += $(O)/test/vm
VM_OBJS := $(patsubst %.c,$(O)/obj/%.o,$(wildcard tests/vm/*.c)) $(patsubst %.S,$(O)/obj/%.o,$(wildcard tests/vm/*.S))

$(O)/test/vm: $(VM_OBJS) $(O)/libec1.a
	@mkdir -p $(@D)
	@echo "  LD      $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $(VM_OBJS) $(O)/libec1.a $(PKG_LIBS) -lcmocka

$(O)/obj/%.o: %.S
	@mkdir -p $(@D)
	@echo "  AS      $<"
	@$(CC) -g -Isrc -I. -MMD -MP -c -o $@ $<
