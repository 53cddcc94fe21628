/* SPDX-License-Identifier: Apache-2.0 */
/* version.h owns the version of Firecracker whose behaviour we have, and which clients ask for. */
#ifndef MAYFLY_VMM_VERSION_H
#define MAYFLY_VMM_VERSION_H

#define FIRECRACKER_VERSION "1.17.0"

#endif
