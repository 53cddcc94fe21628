/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_image.h owns `mayflyctl image`. */
#ifndef MAYFLY_API_CTL_IMAGE_H
#define MAYFLY_API_CTL_IMAGE_H

/* argv[0] is "image". The exit status: 0, 1 when it could not be done, 2 for wrong usage. */
int ctl_image(int argc, char **argv);

#endif
