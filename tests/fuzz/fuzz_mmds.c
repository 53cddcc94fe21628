/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_mmds: the input is a list of commands to a guest and to the time: handshakes and requests as
 * they should be, segments with any header from any place in the sequence, frames with bytes
 * changed anywhere, frames lost, timers, pauses. Oracles: every frame of the service's is whole and
 * fits; what arrives in order are whole answers, one behind the other; no command causes more than
 * a bounded number of frames; a guest that then says nothing is left alone after a bounded time.
 */
#include "tests/fuzz/fuzz_input.h"
#include "tests/support/fake_loop.h"
#include "tests/support/tcp_peer.h"
#include "virtio/mmds/mmds.h"
#include "virtio/mmds/tcp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX 4000
#define PEERS      4

/* More than the answers of all connections in the smallest segments. */
#define FRAMES_MAX (MMDS_CONNECTIONS_MAX * (ANSWER_MAX / 28 + 8) + MMDS_RESETS_MAX)

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            abort();                                                                               \
    } while (0)

struct fixture {
    struct loop *loop;
    struct mmds_endpoint *endpoint;
    uint16_t mtu;
    size_t answer_len;
    bool paused;
    struct tcp_peer peer[PEERS];
};

static char answer_byte(size_t at)
{
    return (char)('a' + at % 26);
}

static char *answer(void *owner, const char *request, size_t len, size_t *answer_len)
{
    struct fixture *f = owner;
    char *text = malloc(f->answer_len + 1);

    CHECK(len > 0 && len <= TCP_RECEIVE_MAX && request[len - 1] == '\n');
    *answer_len = f->answer_len;
    for (size_t i = 0; i < f->answer_len; i++)
        text[i] = answer_byte(i);
    if (f->answer_len % 7 == 3) { /* sometimes there is no memory */
        free(text);
        return NULL;
    }
    return text;
}

/* ---- the wire ---- */

static void give(struct fixture *f, const uint8_t *frame, size_t len)
{
    uint8_t *copy = malloc(len + 1); /* so that reading past its end is seen */

    memcpy(copy, frame, len);
    if (!f->paused && mmds_endpoint_wants(f->endpoint, copy, MIN(len, MMDS_FRAME_HEAD)))
        mmds_endpoint_input(f->endpoint, copy, len);
    free(copy);
}

static void check_data(const struct fixture *f, const struct tcp_peer *peer)
{
    for (size_t i = 0; i < peer->len; i++)
        CHECK(peer->data[i] == answer_byte(i % f->answer_len));
}

/* Whose frame it is; nobody's if it answers one that was changed. */
static struct tcp_peer *find_peer(struct fixture *f, const uint8_t *frame, size_t len)
{
    static const uint8_t ipv4[] = {8, 0}, address[] = {169, 254, 169, 2}, port[] = {0, 80};

    if (len < 54 || memcmp(frame, peer_mac, 6) != 0 || memcmp(frame + 12, ipv4, 2) != 0 ||
        memcmp(frame + 30, address, 4) != 0 || memcmp(frame + 34, port, 2) != 0)
        return NULL;
    for (int i = 0; i < PEERS; i++) {
        if ((frame[36] << 8 | frame[37]) == f->peer[i].port)
            return &f->peer[i];
    }
    return NULL;
}

/* Takes up to n frames, of which those with a bit in `lost` get lost. */
static void output(struct fixture *f, unsigned n, uint32_t lost, bool acknowledges)
{
    uint8_t frame[PEER_FRAME_MAX];
    size_t len;

    for (unsigned i = 0; i < n; i++) {
        struct tcp_peer *peer;

        len = mmds_endpoint_output(f->endpoint, frame, sizeof(frame));
        if (!len)
            return;
        CHECK(i < FRAMES_MAX && len <= 14u + f->mtu);
        peer = find_peer(f, frame, len);
        if (!peer || lost >> i % 32 & 1)
            continue;
        if (frame[47] & PEER_SYN) /* whose answers these were is over */
            tcp_peer_forget(peer);
        CHECK(tcp_peer_take(peer, frame, len));
        check_data(f, peer);
        if (acknowledges && peer->ack_due)
            give(f, peer->frame, tcp_peer_segment(peer, PEER_ACK, NULL, 0));
    }
}

static void run_timer(struct fixture *f)
{
    if (fake_loop_count(f->loop))
        fake_loop_complete(f->loop, 0, fake_loop_op(f->loop, 0)->cancelled ? -ECANCELED : -ETIME,
                           false);
}

/* ---- commands ---- */

static void connect_peer(struct fixture *f, struct tcp_peer *peer, struct input *in)
{
    peer->mss = (uint16_t)take(in, 2);
    peer->window = (uint16_t)take(in, 2);
    give(f, peer->frame, tcp_peer_segment(peer, PEER_SYN, NULL, 0));
    output(f, 1, 0, true);
}

static void send_request(struct fixture *f, struct tcp_peer *peer, uint8_t flags)
{
    static const char request[] = "GET / HTTP/1.1\r\n\r\n";

    give(f, peer->frame, tcp_peer_segment(peer, PEER_ACK | flags, request, strlen(request)));
}

/* Any flags, from near the sequence or from anywhere. */
static void send_odd(struct fixture *f, struct tcp_peer *peer, struct input *in)
{
    uint8_t text[300], flags = (uint8_t)(take(in, 1) & 31);
    int32_t seq = (int8_t)take(in, 1) * (take(in, 1) & 1 ? 1 : 1 << 24);
    uint32_t ack =
        peer->expected + (uint32_t)((int8_t)take(in, 1) * (take(in, 1) & 1 ? 1 : 1 << 20));
    size_t len = take(in, 2) % sizeof(text);
    uint32_t expected = peer->expected;

    for (size_t i = 0; i < len; i++)
        text[i] = (uint8_t) "ab\r\n\n"[take(in, 1) % 5];
    peer->window = (uint16_t)take(in, 2);
    peer->expected = ack;
    len = tcp_peer_segment_at(peer, peer->next + (uint32_t)seq, flags, text, len);
    peer->expected = expected;
    give(f, peer->frame, len);
}

/* The last frame once more, with bytes changed and cut. */
static void send_changed(struct fixture *f, struct tcp_peer *peer, struct input *in)
{
    size_t len = take(in, 1) % 128;

    for (uint32_t changes = take(in, 1) % 6; changes; changes--)
        peer->frame[take(in, 1) % 128] = (uint8_t)take(in, 1);
    give(f, peer->frame, len);
    if (take(in, 1) & 1 && !f->paused) /* as if it had been wanted */
        mmds_endpoint_input(f->endpoint, peer->frame, len);
}

static void pause_or_resume(struct fixture *f)
{
    f->paused = !f->paused;
    if (f->paused)
        mmds_endpoint_quiesce(f->endpoint);
    else
        mmds_endpoint_resume(f->endpoint);
}

static void command(struct fixture *f, struct input *in)
{
    uint32_t what = take(in, 1);
    struct tcp_peer *peer = &f->peer[what >> 6];

    switch (what & 15) {
    case 0:
        connect_peer(f, peer, in);
        break;
    case 1:
    case 2:
        send_request(f, peer, what & 32 ? PEER_FIN : 0);
        break;
    case 3:
        give(f, peer->frame, tcp_peer_segment(peer, (uint8_t)(take(in, 1) & 31), NULL, 0));
        break;
    case 4:
    case 5:
        send_odd(f, peer, in);
        break;
    case 6:
        send_changed(f, peer, in);
        break;
    case 7:
        give(f, peer->frame, tcp_peer_arp(peer));
        break;
    case 8:
        pause_or_resume(f);
        break;
    case 9:
        peer->port = (uint16_t)take(in, 2); /* a new connection */
        break;
    case 10:
        peer->window = (uint16_t)take(in, 2);
        peer->stubborn = what & 32;
        break;
    case 11:
        run_timer(f);
        break;
    default:
        if (!f->paused)
            output(f, 1 + take(in, 1), take(in, 1), what & 32);
        break;
    }
}

/* From now on the guest is silent. */
static void end(struct fixture *f)
{
    if (f->paused)
        pause_or_resume(f);
    output(f, FRAMES_MAX + 1, UINT32_MAX, false);
    for (unsigned i = 0; fake_loop_count(f->loop); i++) {
        CHECK(i < 4 * MMDS_CONNECTIONS_MAX * TCP_RETRIES_MAX);
        run_timer(f);
        output(f, FRAMES_MAX + 1, UINT32_MAX, false);
    }
    for (int i = 0; i < PEERS; i++)
        tcp_peer_release(&f->peer[i]);
    mmds_endpoint_destroy(f->endpoint);
    loop_destroy(f->loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint16_t mtus[] = {1500, 68, 9000, 576};
    static struct fixture f;
    struct input in = {data, data + MIN(size, (size_t)4096)};
    struct mmds_service service = {answer, &f};

    memset(&f, 0, sizeof(f));
    f.mtu = mtus[take(&in, 1) % ARRAY_SIZE(mtus)];
    f.answer_len = 1 + take(&in, 2) % ANSWER_MAX;
    for (unsigned i = 0; i < PEERS; i++)
        tcp_peer_init(&f.peer[i], (uint16_t)(i + 1));
    CHECK(loop_create(&f.loop, NULL) == 0);
    CHECK(mmds_endpoint_create(&f.endpoint, f.loop, MMDS_ADDRESS_DEFAULT, f.mtu, &service, NULL) ==
          0);
    while (in.at < in.end)
        command(&f, &in);
    end(&f);
    return 0;
}
