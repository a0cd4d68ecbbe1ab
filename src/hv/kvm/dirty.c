/* dirty.c — KVM's log of written pages, added to the memory map's marks.
 *
 * Reading the log clears it, so nothing is lost when what is done with the marks fails: they stay.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/auto.h"
#include "base/bits.h"
#include "hv/kvm/kvm_int.h"
#include "mem/map.h"

static void mark(struct mem_map *mem, const struct mem_range *range, const uint64_t *log,
                 uint64_t words)
{
    for (uint64_t w = 0; w < words; w++) {
        for (uint64_t bits = log[w]; bits; bits &= bits - 1) {
            uint64_t page = w * 64 + (unsigned)__builtin_ctzll(bits);

            mem_dirty_mark(mem, GPA(range->gpa.v + page * GUEST_PAGE_SIZE), GUEST_PAGE_SIZE);
        }
    }
}

int kvm_dirty_sync(struct hv_vm *hv)
{
    struct kvm_vm *vm = kvm_vm_of(hv);
    struct mem_map *mem = vm->config.mem;

    for (unsigned i = 0; i < mem_range_count(mem); i++) {
        const struct mem_range *range = mem_range_at(mem, i);
        uint64_t words = (range->len / GUEST_PAGE_SIZE + 63) / 64;
        AUTO_FREE uint64_t *bits = calloc(words, sizeof(*bits));
        struct kvm_dirty_log log = {.slot = i, .dirty_bitmap = bits};
        int r = bits ? kvm_ioctl_ptr(vm->fd, KVM_GET_DIRTY_LOG, &log) : -ENOMEM;

        if (r < 0) {
            return r;
        }
        mark(mem, range, bits, words);
    }
    return 0;
}

/* Reading the log has protected the pages anew. */
void kvm_dirty_restart(struct hv_vm *hv)
{
    (void)hv;
}
