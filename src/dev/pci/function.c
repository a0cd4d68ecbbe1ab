/* function.c — how the configuration space of a function is built. */
#include <assert.h>
#include <string.h>

#include "base/bits.h"
#include "dev/pci/pci.h"
#include "state/state.h"

#define CAP_START 0x40u /* behind the header: chapter 6.1 */

void pci_function_init(struct pci_function *fn, const struct pci_ops *ops, const struct pci_id *id)
{
    uint8_t *c = fn->config;

    fn->ops = ops;
    fn->cap_end = CAP_START;
    store_le16(c + PCI_REG_VENDOR, id->vendor);
    store_le16(c + PCI_REG_DEVICE, id->device);
    c[PCI_REG_REVISION] = id->revision;
    c[PCI_REG_CLASS] = (uint8_t)id->class_code;
    c[PCI_REG_CLASS + 1] = (uint8_t)(id->class_code >> 8);
    c[PCI_REG_CLASS + 2] = (uint8_t)(id->class_code >> 16);
    store_le16(c + PCI_REG_SUBSYSTEM_VENDOR, id->subsystem_vendor);
    store_le16(c + PCI_REG_SUBSYSTEM, id->subsystem);
    store_le16(fn->writable + PCI_REG_COMMAND,
               PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_OFF);
}

void pci_put_bar(struct pci_function *fn, gpa_t gpa, uint64_t len)
{
    fn->bar_len = len;
    /* memory, 64 bits wide: chapter 6.2.5.1 */
    store_le64(fn->config + PCI_REG_BAR0, gpa.v | 4);
    store_le64(fn->writable + PCI_REG_BAR0, ~(len - 1));
}

gpa_t pci_bar(const struct pci_function *fn)
{
    return GPA(load_le64(fn->config + PCI_REG_BAR0) & ~UINT64_C(15));
}

unsigned pci_put_capability(struct pci_function *fn, uint8_t id, unsigned len)
{
    unsigned at = fn->cap_end;

    assert(at + len <= PCI_CONFIG_BYTES);
    fn->config[at] = id;
    fn->config[fn->cap_last ? fn->cap_last + 1 : PCI_REG_CAPABILITIES] = (uint8_t)at;
    fn->config[PCI_REG_STATUS] |= PCI_STATUS_CAPABILITIES;
    fn->cap_last = at;
    fn->cap_end = (at + len + 3) & ~3u;
    return at;
}

void pci_function_fields(struct pci_function *fn, struct state *s)
{
    uint8_t config[PCI_CONFIG_BYTES];

    memcpy(config, fn->config, sizeof(config));
    state_bytes(s, "configuration space", config, sizeof(config));
    for (unsigned i = 0; i < PCI_CONFIG_BYTES; i++) { /* the rest is what this device is */
        fn->config[i] =
            (uint8_t)((fn->config[i] & ~fn->writable[i]) | (config[i] & fn->writable[i]));
    }
    if (fn->ops->fields) {
        fn->ops->fields(fn, s);
    }
}
