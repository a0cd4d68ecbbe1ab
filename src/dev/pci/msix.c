/* msix.c — see msix.h. */
#include "dev/pci/msix.h"

#include <assert.h>
#include <string.h>

#include "base/bits.h"
#include "state/state.h"

/* Message control: 6.8.2.3. */
#define CONTROL_ENABLE BIT(15)
#define CONTROL_MASK   BIT(14)
/* Vector control: 6.8.2.9. */
#define ENTRY_MASKED 1u

void msix_init(struct msix *msix, unsigned count, const struct msi_port *port)
{
    assert(count >= 1 && count <= MSIX_VECTOR_MAX);
    msix->port = *port;
    msix->count = count;
    (void)pthread_mutex_init(&msix->lock, NULL);
    msix_reset(msix);
}

void msix_fini(struct msix *msix)
{
    (void)pthread_mutex_destroy(&msix->lock);
}

void msix_reset(struct msix *msix)
{
    (void)pthread_mutex_lock(&msix->lock);
    msix->is_enabled = false;
    msix->is_masked = false;
    msix->pending = 0;
    for (unsigned i = 0; i < msix->count; i++) {
        msix->entries[i] = (struct msix_entry){.control = ENTRY_MASKED};
    }
    (void)pthread_mutex_unlock(&msix->lock);
}

unsigned msix_put_capability(const struct msix *msix, struct pci_function *fn, uint32_t table,
                             uint32_t pba)
{
    unsigned at = pci_put_capability(fn, PCI_CAP_MSIX, 12);

    store_le16(fn->config + at + 2, (uint16_t)(msix->count - 1));
    store_le16(fn->writable + at + 2, CONTROL_ENABLE | CONTROL_MASK);
    store_le32(fn->config + at + 4, table);
    store_le32(fn->config + at + 8, pba);
    return at;
}

/* With the lock held: what waited and need not any more, goes. */
static void send_pending(struct msix *msix)
{
    for (unsigned i = 0; i < msix->count; i++) {
        const struct msix_entry *entry = &msix->entries[i];

        if ((msix->pending & BIT(i)) && msix->is_enabled && !msix->is_masked &&
            !(entry->control & ENTRY_MASKED)) {
            msix->pending &= ~(uint32_t)BIT(i);
            msix->port.send(msix->port.owner, entry->address, entry->data);
        }
    }
}

void msix_control(struct msix *msix, uint16_t value)
{
    (void)pthread_mutex_lock(&msix->lock);
    msix->is_enabled = value & CONTROL_ENABLE;
    msix->is_masked = value & CONTROL_MASK;
    send_pending(msix);
    (void)pthread_mutex_unlock(&msix->lock);
}

void msix_fields(struct msix *msix, struct state *s)
{
    STATE(s, msix->is_enabled);
    STATE(s, msix->is_masked);
    STATE(s, msix->pending);
    for (unsigned i = 0; i < msix->count; i++) {
        STATE(s, msix->entries[i].address);
        STATE(s, msix->entries[i].data);
        STATE(s, msix->entries[i].control);
    }
}

/* The table as the guest sees it. */
static uint32_t entry_word(const struct msix_entry *entry, unsigned word)
{
    switch (word) {
    case 0: return (uint32_t)entry->address;
    case 1: return (uint32_t)(entry->address >> 32);
    case 2: return entry->data;
    default: return entry->control;
    }
}

static void entry_set_word(struct msix_entry *entry, unsigned word, uint32_t value)
{
    switch (word) {
    case 0: entry->address = (entry->address & ~(uint64_t)UINT32_MAX) | (value & ~3u); break;
    case 1: entry->address = (entry->address & UINT32_MAX) | (uint64_t)value << 32; break;
    case 2: entry->data = value; break;
    default: entry->control = value & ENTRY_MASKED; break;
    }
}

static bool is_table_access(const struct msix *msix, uint64_t offset, unsigned len)
{
    return (len == 4 || len == 8) && offset % len == 0 &&
           range_within(offset, len, msix->count * MSIX_ENTRY_BYTES);
}

void msix_table_read(struct msix *msix, uint64_t offset, void *data, unsigned len)
{
    memset(data, 0, len);
    if (!is_table_access(msix, offset, len)) {
        return;
    }
    (void)pthread_mutex_lock(&msix->lock);
    for (unsigned i = 0; i < len / 4; i++) {
        uint64_t word = offset / 4 + i;

        store_le32((uint8_t *)data + (size_t)4 * i, entry_word(&msix->entries[word / 4], word % 4));
    }
    (void)pthread_mutex_unlock(&msix->lock);
}

void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned len)
{
    if (!is_table_access(msix, offset, len)) {
        return;
    }
    (void)pthread_mutex_lock(&msix->lock);
    for (unsigned i = 0; i < len / 4; i++) {
        uint64_t word = offset / 4 + i;

        entry_set_word(&msix->entries[word / 4], word % 4,
                       load_le32((const uint8_t *)data + (size_t)4 * i));
    }
    send_pending(msix);
    (void)pthread_mutex_unlock(&msix->lock);
}

void msix_pba_read(struct msix *msix, uint64_t offset, void *data, unsigned len)
{
    uint8_t bits[8] = {0};

    memset(data, 0, len);
    if (!range_within(offset, len, sizeof(bits))) {
        return;
    }
    (void)pthread_mutex_lock(&msix->lock);
    store_le32(bits, msix->pending);
    (void)pthread_mutex_unlock(&msix->lock);
    memcpy(data, bits + offset, len);
}

void msix_raise(struct msix *msix, unsigned vector)
{
    if (vector >= msix->count) {
        return;
    }
    (void)pthread_mutex_lock(&msix->lock);
    if (msix->is_enabled) { /* without, there would be INTx, which we do not have */
        msix->pending |= (uint32_t)BIT(vector);
        send_pending(msix);
    }
    (void)pthread_mutex_unlock(&msix->lock);
}
