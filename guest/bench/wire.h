/* SPDX-License-Identifier: Apache-2.0 */
/* What the tiny guest's benchmarks and the peer on the host say to each other. */
#ifndef MAYFLY_GUEST_BENCH_WIRE_H
#define MAYFLY_GUEST_BENCH_WIRE_H

#include <stdint.h>

/* ---- frames: an Ethernet type of the range for experiments ---- */

#define WIRE_ASKS    0xb588 /* 0x88b5 on the wire: the peer listens to these */
#define WIRE_IGNORED 0xb688 /* to these nobody does */
#define WIRE_TYPE    0x88b5
#define WIRE_PEER_MAC                                                                              \
    {                                                                                              \
        0x02, 0, 0, 0, 0, 0x01                                                                     \
    }
#define WIRE_GUEST_MAC                                                                             \
    {                                                                                              \
        0x02, 0, 0, 0, 0, 0x02                                                                     \
    }
#define WIRE_FRAME_MIN 64

enum wire_request { /* of a frame */
                    WIRE_NOTHING,
                    WIRE_ECHO,  /* send this frame back */
                    WIRE_FLOOD, /* send frames of `size` bytes until WIRE_STOP */
                    WIRE_STOP,
};

struct wire_frame {
    uint8_t to[6], from[6];
    uint16_t type;
    uint8_t what, pad;
    uint32_t size;
};

/* ---- sockets: the first byte of a connection says what it is for ---- */

#define WIRE_PORT        1024
#define WIRE_SOCKET_ECHO 'e' /* every byte comes back */
#define WIRE_SINK        's' /* after WIRE_SINK_LEN bytes, this one counted, one comes back */
#define WIRE_SOURCE      'r' /* bytes come until the connection ends */

#define WIRE_SINK_LEN (512UL << 20)

#endif
