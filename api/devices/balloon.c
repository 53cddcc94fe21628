/* SPDX-License-Identifier: Apache-2.0 */
/* balloon.c: requests about the balloon. */
#include "api/api.h"

#include <errno.h>

/* There is no balloon yet, which is an answer that clients of Firecracker know. */
int act_balloon_get(struct call *call, struct err *e)
{
    (void)call;
    return err_set(e, -ENODEV, "No balloon device found.");
}
