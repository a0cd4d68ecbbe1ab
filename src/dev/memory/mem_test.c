/* mem_test.c — blocks are plugged up to what was asked for, and only whole, free ones. */
#include <errno.h>
#include <stdlib.h>

#include "dev/memory/mem.h"
#include "io/loop.h"
#include "state/state.h"
#include "tests/lib/fake_driver.h"

#define REGION UINT64_C(0x8000000000)
#define BLOCK  (2 * MIB)
#define SLOT   (4 * BLOCK)
#define TOTAL  (4 * SLOT)

enum { PLUG, UNPLUG, UNPLUG_ALL, STATE_OF };
enum { ACK = 0, ERROR = 3 };

struct rig {
    struct fake_driver drv;
    struct loop *loop;
    struct virtio_dev *dev;
    unsigned region;
    unsigned refuse_slot; /* whose coming fails; 0: none */
    gpa_t request, response;
};

static int set_slot(void *owner, uint64_t slot, bool is_there)
{
    struct rig *g = owner;

    if (is_there && g->refuse_slot && slot == g->refuse_slot) {
        return -ENOMEM;
    }
    mem_slot_set(g->drv.mem, g->region, slot, is_there);
    return 0;
}

static void rig_init(struct rig *g)
{
    struct mem_backing backing = {.pages = MEM_PAGES_HOST, .slot_bytes = SLOT};
    struct mem_config config = {.gpa = GPA(REGION),
                                .total_bytes = TOTAL,
                                .block_bytes = BLOCK,
                                .slot_bytes = SLOT,
                                .port = {.set = set_slot, .owner = g}};
    struct err err = {0};

    *g = (struct rig){.region = 1};
    fake_driver_init(&g->drv);
    CHECK_OK(mem_map_add_backed(g->drv.mem, GPA(REGION), TOTAL, &backing, &err), &err);
    CHECK_OK(loop_new(&g->loop, &err), &err);
    CHECK_OK(mem_new(&config, g->drv.mem, g->loop, &g->dev, &err), &err);
    fake_driver_attach(&g->drv, g->dev);
}

static void rig_start(struct rig *g)
{
    struct err err = {0};

    CHECK_OK(loop_thread_start(g->loop, "mem", &err), &err);
    fake_driver_start(&g->drv, VIRTIO_F_VERSION_1, 16);
    g->request = fake_alloc(&g->drv, 24, 16);
    g->response = fake_alloc(&g->drv, 10, 16);
}

static void rig_fini(struct rig *g)
{
    loop_thread_stop(g->loop);
    fake_driver_fini(&g->drv);
    loop_free(g->loop);
}

/* Response type; the state goes to *ret_state. */
static unsigned ask(struct rig *g, uint16_t type, uint64_t addr, uint16_t count,
                    unsigned *ret_state)
{
    uint8_t *request = fake_ptr(&g->drv, g->request, 24);
    uint8_t *response = fake_ptr(&g->drv, g->response, 10);
    uint32_t id = 0;
    uint32_t len = 0;

    memset(request, 0, 24);
    store_le16(request, type);
    store_le64(request + 8, addr);
    store_le16(request + 16, count);
    memset(response, 0xff, 10);
    fake_put_desc(&g->drv.queues[0], 0, g->request, 24, FAKE_NEXT, 1);
    fake_put_desc(&g->drv.queues[0], 1, g->response, 10, FAKE_WRITE, 0);
    fake_offer(&g->drv.queues[0], 0);
    fake_kick(&g->drv, 0);
    CHECK(fake_wait_used(&g->drv, 0, &id, &len));
    CHECK_INT(len, 10);
    if (ret_state) {
        *ret_state = load_le16(response + 8);
    }
    return load_le16(response);
}

static uint64_t plugged(struct rig *g)
{
    struct mem_status status;

    mem_get_status(g->dev, &status);
    return status.plugged_bytes;
}

TEST(mem_device, blocks_come_and_go_as_the_guest_asks)
{
    struct rig g;
    unsigned is = 9;

    rig_init(&g);
    CHECK_INT(mem_request(g.dev, BLOCK), -ENODEV); /* no driver */
    rig_start(&g);
    CHECK_INT(ask(&g, PLUG, REGION, 1, NULL), ERROR); /* nothing was asked for */
    CHECK_INT(mem_request(g.dev, BLOCK + 1), -EINVAL);
    CHECK_INT(mem_request(g.dev, TOTAL + BLOCK), -EINVAL);
    CHECK_INT(mem_request(g.dev, 5 * BLOCK), 0);
    CHECK(mem_ptr(g.drv.mem, GPA(REGION), 1) == NULL);
    CHECK_INT(ask(&g, PLUG, REGION, 4, NULL), ACK);
    CHECK_INT(plugged(&g), 4 * BLOCK);
    CHECK(mem_ptr(g.drv.mem, GPA(REGION), SLOT) != NULL);
    CHECK(mem_ptr(g.drv.mem, GPA(REGION), SLOT + 1) == NULL);
    CHECK_INT(ask(&g, PLUG, REGION + SLOT, 2, NULL), ERROR); /* more than asked for */
    CHECK_INT(ask(&g, PLUG, REGION, 1, NULL), ERROR);        /* it is */
    CHECK_INT(ask(&g, PLUG, REGION + SLOT + BLOCK, 1, NULL), ACK);
    CHECK_INT(ask(&g, STATE_OF, REGION, 4, &is), ACK);
    CHECK_INT(is, 0);
    CHECK_INT(ask(&g, STATE_OF, REGION + SLOT, 1, &is), ACK);
    CHECK_INT(is, 1);
    CHECK_INT(ask(&g, STATE_OF, REGION + SLOT, 2, &is), ACK);
    CHECK_INT(is, 2);

    CHECK_INT(mem_write(g.drv.mem, GPA(REGION + BLOCK), "x", 1), 0);
    CHECK_INT(ask(&g, UNPLUG, REGION + BLOCK, 1, NULL), ACK);
    CHECK_INT(*(char *)mem_ptr(g.drv.mem, GPA(REGION + BLOCK), 1), 0); /* the slot is still there */
    CHECK_INT(ask(&g, UNPLUG, REGION, 2, NULL), ERROR);
    CHECK_INT(ask(&g, UNPLUG_ALL, 0, 0, NULL), ACK);
    CHECK_INT(plugged(&g), 0);
    CHECK(mem_ptr(g.drv.mem, GPA(REGION), 1) == NULL);
    CHECK_INT(ask(&g, PLUG, REGION, 1, NULL), ACK); /* as much as before may come again */
    rig_fini(&g);
}

TEST(mem_device, requests_outside_of_the_region_are_errors)
{
    static const struct {
        uint64_t addr;
        uint16_t count;
    } bad[] = {
        {REGION - BLOCK, 1},
        {REGION + 1, 1},
        {REGION + TOTAL, 1},
        {REGION, 0},
        {REGION + TOTAL - BLOCK, 2},
        {UINT64_MAX - BLOCK + 1, 1},
        {0, UINT16_MAX},
        {REGION + 2 * SLOT, 1 /* not usable yet */},
    };
    struct rig g;

    rig_init(&g);
    rig_start(&g);
    CHECK_INT(mem_request(g.dev, 2 * SLOT), 0);
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        for (uint16_t type = 0; type < 6; type++) {
            if (type != UNPLUG_ALL) {
                CHECK_INT(ask(&g, type, bad[i].addr, bad[i].count, NULL), ERROR);
            }
        }
    }
    CHECK_INT(plugged(&g), 0);
    rig_fini(&g);
}

TEST(mem_device, a_slot_that_cannot_come_leaves_nothing_plugged)
{
    struct rig g;

    rig_init(&g);
    rig_start(&g);
    g.refuse_slot = 1;
    CHECK_INT(mem_request(g.dev, 2 * SLOT), 0);
    CHECK_INT(ask(&g, PLUG, REGION, 5, NULL), ERROR);
    CHECK_INT(plugged(&g), 0);
    CHECK(mem_ptr(g.drv.mem, GPA(REGION), 1) == NULL);
    g.refuse_slot = 0;
    CHECK_INT(ask(&g, PLUG, REGION, 5, NULL), ACK);
    rig_fini(&g);
}

TEST(mem_device, what_is_plugged_is_in_a_snapshot)
{
    struct rig before;
    struct rig after;
    struct state_file file;
    struct state s;
    struct mem_status status;
    struct err err = {0};

    rig_init(&before);
    rig_start(&before);
    CHECK_INT(mem_request(before.dev, 3 * BLOCK), 0);
    CHECK_INT(ask(&before, PLUG, REGION + BLOCK, 2, NULL), ACK);
    state_file_begin(&file);
    state_save(&file, &s, "mem");
    before.dev->ops->save(before.dev, &s);
    CHECK_OK(state_close(&s, &err), &err);
    CHECK_OK(state_file_finish(&file, &err), &err);

    rig_init(&after);
    CHECK_OK(state_load(&file, &s, &err, "mem"), &err);
    after.dev->ops->load(after.dev, &s);
    CHECK_OK(state_close(&s, &err), &err);
    mem_get_status(after.dev, &status);
    CHECK(status.plugged_bytes == 2 * BLOCK && status.requested_bytes == 3 * BLOCK);
    CHECK(mem_ptr(after.drv.mem, GPA(REGION), SLOT) != NULL);
    rig_start(&after);
    CHECK_INT(ask(&after, UNPLUG, REGION + BLOCK, 2, NULL), ACK);
    rig_fini(&after);

    /* blocks beyond the region, another region: refused */
    rig_init(&after);
    for (unsigned i = 0; i < 3; i++) {
        uint8_t *field = file.bytes.data + 16 + 1 + 3 + 4 + i * 9 + 1;

        field[3] ^= 1;
        CHECK_OK(state_load(&file, &s, &err, "mem"), &err);
        after.dev->ops->load(after.dev, &s);
        CHECK_INT(state_close(&s, &err), -EBADMSG);
        field[3] ^= 1;
    }
    CHECK_INT(plugged(&after), 0);
    rig_fini(&after);
    rig_fini(&before);
    state_file_fini(&file);
}
