/* config_file.c — see config_file.h. */
#include "api/config_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/json_table.h"
#include "api/request_json.h"
#include "api/resource_json.h"
#include "base/auto.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/os_error.h"
#include "vmm/microvm.h"

/* Templates have some kilobytes. */
#define CPU_FILE_MAX (1u << 20)

struct sections {
    struct resource_boot boot;
    struct json_list drives, nets, pmems;
    struct resource_machine machine;
    struct resource_cpu cpu; /* a path in quotes, or a template */
    struct resource_vsock vsock;
    struct resource_balloon balloon;
    struct resource_entropy entropy;
    struct resource_memory memory;
    struct resource_logger logger;
    struct resource_metrics metrics;
    struct resource_mmds_config mmds_config;
    bool has_machine, has_vsock, has_balloon, has_entropy, has_memory, has_logger, has_metrics,
        has_mmds_config;
};

#define SECTION(name_, member_)                                                            \
    {                                                                                      \
        .name = (name_), JSON_AT(struct sections, member_), .kind = JSON_OBJECT, NULLABLE, \
        .type = &json_##member_, JSON_HAS(struct sections, has_##member_)                  \
    }
#define LIST(name_, member_, type_)                                                             \
    .name = (name_), JSON_AT(struct sections, member_), .kind = JSON_LIST, .item = JSON_OBJECT, \
    .type = &(type_)

static const struct json_field section_fields[] = {
    SECTION("balloon", balloon),
    {LIST("drives", drives, json_drive), REQUIRED},
    {.name = "boot-source",
     JSON_AT(struct sections, boot),
     .kind = JSON_OBJECT,
     REQUIRED,
     .type = &json_boot},
    {.name = "cpu-config", JSON_AT(struct sections, cpu.json), .kind = JSON_ANY, NULLABLE},
    SECTION("logger", logger),
    SECTION("machine-config", machine),
    SECTION("metrics", metrics),
    SECTION("mmds-config", mmds_config),
    {LIST("network-interfaces", nets, json_net)},
    SECTION("vsock", vsock),
    SECTION("entropy", entropy),
    {LIST("pmem", pmems, json_pmem)},
    SECTION("memory-hotplug", memory),
};
static const struct json_type json_sections = TYPE("VmmConfig", sections, section_fields, false);

/* --- one after the other --- */

static int put(struct microvm *vm, enum action_kind kind, void *resource, bool is_there,
               struct err *err)
{
    struct action action = {.kind = kind, .resource = resource};

    return is_there ? microvm_do(vm, &action, err) : 0;
}

static int put_list(struct microvm *vm, enum action_kind kind, const struct json_list *list,
                    size_t size, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < list->count; i++) {
        r = put(vm, kind, (char *)list->items + i * size, true, err);
    }
    return r;
}

int config_file_metadata(struct microvm *vm, const char *text, size_t len, struct err *err)
{
    struct action action = {.kind = ACTION_PUT_MMDS, .mmds = {.text = text, .len = len}};
    int r = microvm_do(vm, &action, err);

    if (r == -EFBIG) {
        return err_set(err, r, "The MMDS patch request doesn't fit.");
    }
    if (r == 0) {
        log_info("Successfully added metadata to mmds from file");
    }
    return r;
}

/* A template may be named instead of written out: the file's content takes the name's place. */
static int read_cpu(struct resource_cpu *cpu, struct err *err)
{
    static const struct json_field fields[] = {{FIELD(resource_cpu, json, JSON_STRING)}};
    static const struct json_type type = TYPE("path", resource_cpu, fields, true);
    AUTO_CALL(buf_fini) struct buf text = {0};
    struct resource_cpu path = {0};
    char *json = NULL;
    int r;

    if (!cpu->json || cpu->json[0] != '"') {
        return 0;
    }
    buf_printf(&text, "{\"json\":%s}", cpu->json);
    r = json_in(buf_str(&text), text.len, &type, &path, err);
    buf_clear(&text);
    if (r == 0) {
        r = buf_read_file(&text, path.json, CPU_FILE_MAX);
        if (r < 0) {
            char why[OS_ERROR_MAX];

            (void)err_set(err, r, "cpu-config '%s': %s", path.json, os_error(r, why));
        }
    }
    json_in_free(&type, &path);
    if (r == 0) {
        r = json_check(buf_str(&text), text.len, err);
    }
    if (r == 0) {
        json = strdup(buf_str(&text));
        r = json ? 0 : err_set(err, -ENOMEM, "out of memory");
    }
    if (r == 0) {
        free(cpu->json);
        cpu->json = json;
    }
    return r;
}

#define PUT(kind_, member_, has_)                                         \
    if (r == 0) {                                                         \
        r = put(vm, ACTION_PUT_##kind_, &sections->member_, (has_), err); \
    }
#define PUT_EACH(kind_, member_, type_)                                                      \
    if (r == 0) {                                                                            \
        r = put_list(vm, ACTION_PUT_##kind_, &sections->member_, sizeof(struct type_), err); \
    }

static int apply(struct microvm *vm, struct sections *sections, const struct config_file *file,
                 struct err *err)
{
    int r = 0;

    PUT(LOGGER, logger, sections->has_logger)
    PUT(METRICS, metrics, sections->has_metrics)
    PUT(MACHINE, machine, sections->has_machine)
    if (r == 0) {
        r = read_cpu(&sections->cpu, err);
    }
    PUT(CPU, cpu, sections->cpu.json != NULL)
    PUT(BOOT, boot, true)
    PUT_EACH(DRIVE, drives, resource_drive)
    PUT_EACH(NET, nets, resource_net)
    PUT(VSOCK, vsock, sections->has_vsock)
    PUT(BALLOON, balloon, sections->has_balloon)
    if (r == 0 && file->metadata) {
        r = config_file_metadata(vm, file->metadata, file->metadata_len, err);
    }
    PUT(MMDS_CONFIG, mmds_config, sections->has_mmds_config)
    PUT(ENTROPY, entropy, sections->has_entropy)
    PUT_EACH(PMEM, pmems, resource_pmem)
    PUT(MEMORY, memory, sections->has_memory)
    return r;
}

int config_file_start(struct microvm *vm, const struct config_file *file, struct err *err)
{
    struct sections sections = {.memory = json_memory_defaults};
    struct err why = {0};
    int r = json_in(file->text, file->len, &json_sections, &sections, &why);
    const char *stage = "Configuration for VMM from one single json failed: ";

    r = r < 0 ? err_wrap(&why, r, "Invalid JSON") : apply(vm, &sections, file, &why);
    json_in_free(&json_sections, &sections);
    if (r == 0) {
        stage = "Could not Start MicroVM from one single json: ";
        r = put(vm, ACTION_START, NULL, true, &why);
    }
    return r < 0 ? err_set(err, r, "%s%s", stage, err_text(&why)) : 0;
}
