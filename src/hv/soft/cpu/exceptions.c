/* exceptions.c — raising an exception: note it and leave to the run loop.
 *
 * The frames in between are left by longjmp; none of them holds a resource.
 */
#include "hv/soft/cpu/vcpu.h"

#define DR6_BS UINT64_C(0x4000) /* SDM volume 3, 17.2.3 */

static _Noreturn void leave(struct vcpu *v)
{
    v->stats.exceptions++;
    _longjmp(v->unwind, 1);
}

void vcpu_raise(struct vcpu *v, enum exc_vector vector)
{
    v->exc.vector = (uint8_t)vector;
    v->exc.has_error = false;
    v->exc.is_soft = false;
    v->exc.error = 0;
    leave(v);
}

void vcpu_raise_error(struct vcpu *v, enum exc_vector vector, uint32_t error)
{
    v->exc.vector = (uint8_t)vector;
    v->exc.has_error = true;
    v->exc.is_soft = false;
    v->exc.error = error;
    leave(v);
}

void vcpu_raise_step(struct vcpu *v)
{
    v->dr[6] |= DR6_BS;
    vcpu_raise(v, EXC_DB);
}

void vcpu_raise_pf(struct vcpu *v, uint64_t la, uint32_t error)
{
    v->exc.cr2 = la;
    vcpu_raise_error(v, EXC_PF, error);
}
