/* SPDX-License-Identifier: Apache-2.0 */
/* mmds_fixture.c: see mmds_fixture.h. */
#include "tests/unit/mmds_fixture.h"

#include "tests/support/fake_loop.h"
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char *answer_all(void *owner, const char *request, size_t len, size_t *answer_len)
{
    struct fixture *f = owner;
    char *text = f->answer ? malloc(f->answer_len) : NULL;

    f->requests++;
    assert_true(len <= TCP_RECEIVE_MAX);
    memcpy(f->last, request, len);
    f->last[len] = '\0';
    if (text)
        memcpy(text, f->answer, f->answer_len);
    *answer_len = f->answer_len;
    return text;
}

static void note_ready(void *owner)
{
    ((struct fixture *)owner)->ready++;
}

/* Bytes that tell where they belong. */
void set_answer(struct fixture *f, size_t len)
{
    free(f->answer);
    f->answer = malloc(len + 1);
    f->answer_len = len;
    for (size_t i = 0; i < len; i++)
        f->answer[i] = (char)('a' + (i + i / 251) % 26);
    f->answer[len] = '\0';
}

void set_up_mtu(struct fixture *f, uint16_t mtu)
{
    struct mmds_service service = {answer_all, f};

    memset(f, 0, sizeof(*f));
    memset(&metrics, 0, sizeof(metrics));
    f->random = 1;
    set_answer(f, 2);
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    assert_int_equal(
        mmds_endpoint_create(&f->endpoint, f->loop, MMDS_ADDRESS_DEFAULT, mtu, &service, NULL), 0);
    mmds_endpoint_attach(f->endpoint, &(struct mmds_wire){note_ready, f});
}

void set_up(struct fixture *f)
{
    set_up_mtu(f, MTU);
}

/* Carries out what is pending, which after a quiesce is a cancelled timer. */
void tear_down(struct fixture *f)
{
    mmds_endpoint_quiesce(f->endpoint);
    while (fake_loop_count(f->loop))
        fake_loop_complete(f->loop, 0, -ECANCELED, false);
    mmds_endpoint_destroy(f->endpoint);
    assert_int_equal(metrics.mmds.connections_created, metrics.mmds.connections_destroyed);
    loop_destroy(f->loop);
    free(f->answer);
}

/* ---- the wire ---- */

void give(struct fixture *f, const struct tcp_peer *peer, size_t len)
{
    assert_true(mmds_endpoint_wants(f->endpoint, peer->frame, MIN(len, MMDS_FRAME_HEAD)));
    mmds_endpoint_input(f->endpoint, peer->frame, len);
}

size_t take(struct fixture *f, uint8_t *frame)
{
    size_t len = mmds_endpoint_output(f->endpoint, frame, PEER_FRAME_MAX);

    assert_true(len <= PEER_FRAME_MAX);
    return len;
}

static bool happens(struct fixture *f, unsigned of_100)
{
    f->random = f->random * 1664525 + 1013904223;
    return (f->random >> 16) % 100 < of_100;
}

/* What is for another peer is lost. */
static void deliver(struct fixture *f, struct tcp_peer *peer, const uint8_t *frame, size_t len)
{
    if (len > 38 && (frame[36] << 8 | frame[37]) != peer->port)
        return;
    for (int times = happens(f, f->lost) ? 0 : happens(f, f->doubled) ? 2 : 1; times; times--) {
        assert_true(tcp_peer_take(peer, frame, len));
        if (peer->ack_due) {
            size_t n = tcp_peer_segment(peer, PEER_ACK, NULL, 0);

            if (!happens(f, f->lost))
                give(f, peer, n);
        }
    }
}

#define BURST 8

/* Frames until there are none; what is acknowledged on the way may bring more. */
void exchange(struct fixture *f, struct tcp_peer *peer)
{
    static uint8_t frame[BURST][PEER_FRAME_MAX];
    size_t len[BURST];
    unsigned n;

    do {
        for (n = 0; n < BURST && (len[n] = take(f, frame[n])) > 0; n++)
            ;
        for (unsigned i = 0; i < n; i++) {
            unsigned at = f->backwards ? n - 1 - i : i;

            deliver(f, peer, frame[at], len[at]);
        }
    } while (n);
}

/* The endpoint's timer runs out until that has an effect; false if there is none. */
bool run_timer(struct fixture *f)
{
    unsigned before = f->ready;
    bool ran = false;

    while (f->ready == before && fake_loop_count(f->loop)) {
        bool cancelled = fake_loop_op(f->loop, 0)->cancelled;

        fake_loop_complete(f->loop, 0, cancelled ? -ECANCELED : -ETIME, false);
        ran = true;
    }
    return ran;
}

void exchange_patiently(struct fixture *f, struct tcp_peer *peer, size_t len)
{
    exchange(f, peer);
    for (int timeouts = 0; peer->len < len && timeouts < 500 && run_timer(f); timeouts++)
        exchange(f, peer);
}

void connect_peer(struct fixture *f, struct tcp_peer *peer)
{
    give(f, peer, tcp_peer_segment(peer, PEER_SYN, NULL, 0));
    exchange(f, peer);
    for (int tries = 0; !peer->open && tries < 100 && run_timer(f); tries++)
        exchange(f, peer);
    assert_true(peer->open && !peer->reset);
}

void send_text(struct fixture *f, struct tcp_peer *peer, const char *text)
{
    give(f, peer, tcp_peer_segment(peer, PEER_ACK | PEER_PSH, text, strlen(text)));
}

void assert_answered(const struct fixture *f, const struct tcp_peer *peer)
{
    assert_int_equal(peer->len, f->answer_len);
    assert_memory_equal(peer->data, f->answer, f->answer_len);
}

void open_peer(struct fixture *f, struct tcp_peer *peer, uint16_t port)
{
    tcp_peer_init(peer, port);
    connect_peer(f, peer);
}
