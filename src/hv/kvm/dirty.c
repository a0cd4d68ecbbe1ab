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

/* Pages [gpa, gpa+len) are KVM's memory slot `slot`. */
static int sync_slot(struct kvm_vm *vm, uint32_t slot, gpa_t gpa, uint64_t len)
{
    uint64_t words = (len / GUEST_PAGE_SIZE + 63) / 64;
    AUTO_FREE uint64_t *bits = calloc(words, sizeof(*bits));
    struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bits};
    int r = bits ? kvm_ioctl_ptr(vm->fd, KVM_GET_DIRTY_LOG, &log) : -ENOMEM;

    for (uint64_t w = 0; r == 0 && w < words; w++) {
        for (uint64_t left = bits[w]; left; left &= left - 1) {
            uint64_t page = w * 64 + (unsigned)__builtin_ctzll(left);

            mem_dirty_mark(vm->config.mem, GPA(gpa.v + page * GUEST_PAGE_SIZE), GUEST_PAGE_SIZE);
        }
    }
    return r;
}

/* RAM that comes and goes: what is there. */
static int sync_hot(struct kvm_vm *vm, const struct mem_range *range)
{
    int r = 0;

    for (uint64_t i = 0; r == 0 && i < range->len / range->slot_bytes; i++) {
        if (mem_slot_is_there(range, i)) {
            r = sync_slot(vm, KVM_FIRST_HOT_SLOT + (uint32_t)i,
                          GPA(range->gpa.v + i * range->slot_bytes), range->slot_bytes);
        }
    }
    return r;
}

int kvm_dirty_sync(struct hv_vm *hv)
{
    struct kvm_vm *vm = kvm_vm_of(hv);
    struct mem_map *mem = vm->config.mem;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < mem_range_count(mem); i++) {
        const struct mem_range *range = mem_range_at(mem, i);

        r = range->slots ? sync_hot(vm, range) : sync_slot(vm, i, range->gpa, range->len);
    }
    return r;
}

/* Reading the log has protected the pages anew. */
void kvm_dirty_restart(struct hv_vm *hv)
{
    (void)hv;
}
